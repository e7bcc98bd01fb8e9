"""What is counted of a step of DINOv2 without contents, and that it is timed."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    for module in ("machine", "step_account", "fake_card", name):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return importlib.import_module(name)


def tiny(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with a size of its own."""
    module = script("dinov2_account", monkeypatch)
    size = "model.kwargs={img_size: 64, patch_size: 8, depth: 2, embed_dim: 192, num_heads: 3}"
    views = ["views.globals.size=64", "views.locals.size=32", "views.locals.count=4"]
    monkeypatch.setitem(module.SIZES, "tiny", ("midnight-tiny", ["precision=bfloat16", size, *views]))
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Accessing the data pointer")
def test_packed_has_the_same_operations_in_fewer_kernels_and_subsets_fewer_of_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = tiny(monkeypatch)
    separate, packed, subset = (module.account("tiny", way, 8, 0.5) for way in module.WAYS)
    assert packed.flops == separate.flops > subset.flops
    assert packed.kernels < 0.9 * separate.kernels
    # by hand: linear layers of blocks see the student's tokens three times and the teacher's once, and
    # patches and heads come on top
    width, tokens = 192, 8 * (2 * 65 + 4 * 17)
    blocks = 2 * 2 * 12 * width**2 * (3 * tokens + 8 * 2 * 65)
    assert 1.0 < separate.flops / blocks < 1.8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_compiled_backbones_do_the_same_in_fewer_kernels_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = tiny(monkeypatch)
    subset, compiled = (module.account("tiny", way, 8, 0.5) for way in ("subset", "compiled"))
    assert compiled.flops == subset.flops
    assert compiled.kernels < subset.kernels
    assert compiled.bytes < subset.bytes


def test_ours_is_timed_alone_where_there_is_no_lightly_train(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = script("bench_dinov2", monkeypatch)
    monkeypatch.setitem(sys.modules, "lightly_train", None)
    small = ["--model", "vit_tiny_patch16_224", "--large", "32", "--small", "16", "--batch", "2"]
    small += ["--out-dim", "8", "--steps", "1"]
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["bench_dinov2.py", *small, "--centring", "mean", "--json", str(out)])
    module.main()
    assert "lightly-train is left out" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert list(found["medians"]) == ["ours, mean"]
    assert found["flops_a_tile"] > 1e8
