"""Timing cases side by side: one that fails is named, the others are timed, and what there is is saved."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "bench"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    for module in ("cases", "machine", "bench_macenko", "bench_tiling"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return importlib.import_module(name)


def fail() -> None:
    raise MemoryError("the card is full")


def test_a_case_that_fails_is_named_and_the_others_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = load("cases", monkeypatch)
    timed = cases.on_cpu({"one": lambda: None, "two": fail, "three": lambda: None}, 3)
    assert {name: len(each) for name, each in timed.seconds.items()} == {"one": 3, "three": 3}
    assert timed.failed == {"two": "MemoryError: the card is full"}


def test_the_card_is_timed_by_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call only queues its work; here a fake card does it when an event waits for it."""
    cases = load("cases", monkeypatch)
    queued: list[int] = []
    clock = {"now": 0}

    class Event:
        def record(self) -> None:
            clock["now"] += sum(queued)
            queued.clear()
            self.at = clock["now"]

        def synchronize(self) -> None: ...

    stream = SimpleNamespace(null=SimpleNamespace(synchronize=queued.clear))
    cuda = SimpleNamespace(Event=Event, Stream=stream, get_elapsed_time=lambda a, b: float(b.at - a.at))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    timed = cases.on_card(
        {"slow": lambda: queued.append(30), "quick": lambda: queued.append(5), "no": fail}, 2
    )
    assert timed.seconds == {"slow": [0.03, 0.03], "quick": [0.005, 0.005]}
    assert list(timed.failed) == ["no"]


@pytest.mark.parametrize("name", ["bench_macenko", "bench_tiling"])
def test_what_was_measured_is_saved_when_the_card_fails(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = load(name, monkeypatch)
    monkeypatch.setattr(bench, "describe", lambda: {"cpu": "c", "cores": 1, "date": "d", "gpus": ["a card"]})
    monkeypatch.setattr(bench, "SIZES", (32, 48), raising=False)
    monkeypatch.setattr(bench, "SHAPES", ((512, 256), (512, 512)), raising=False)
    copy: dict[str, Any] = {"copy": (lambda: None, 1)} if name == "bench_macenko" else {"cut": lambda: None}
    monkeypatch.setattr(bench, "cpu_cases", lambda *_arguments: copy)
    monkeypatch.setattr(bench, "gpu_cases", lambda *_arguments: fail())
    monkeypatch.setattr(bench, "paint", lambda count, size: np.zeros((count, size, size, 3), np.uint8))
    path = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", [name, "--rounds", "1", "--json", str(path)])
    with pytest.raises(SystemExit, match="a card, .* all: MemoryError: the card is full"):
        bench.main()
    rows = json.loads(path.read_text())["rows"]
    assert [(row["device"], "error" in row) for row in rows] == [("CPU", False), ("a card", True)] * 2
    assert "failed" in capsys.readouterr().out


def test_torchstain_runs_where_the_tiles_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's device without memory: tensors of two devices in one product are refused there, too."""
    import torch

    bench = load("bench_macenko", monkeypatch)
    seen = []

    class Peer:
        HERef = torch.zeros(3, 2)
        maxCRef = torch.zeros(2)

        def normalize(self, tile: Any, stains: bool) -> Any:
            assert not stains
            seen.append({self.HERef.device, self.maxCRef.device, tile.device})

    monkeypatch.setattr(bench, "TorchMacenkoNormalizer", Peer)
    bench.torch_peer(torch.zeros(2, 3, 4, 4, device="meta"))
    assert seen == [{torch.device("meta")}] * 2
    real = importlib.import_module("torchstain.torch.normalizers").TorchMacenkoNormalizer()
    assert isinstance(real.HERef, torch.Tensor)
    assert isinstance(real.maxCRef, torch.Tensor)
