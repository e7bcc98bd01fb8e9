"""Training on a card: steps as on the CPU, resumed to the bit, exported, and measured on its way."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from gpu.conftest import CPU
from helpers.toys import TINY, moved
from helpers.training import assert_same_to_the_bit, train
from torch import Tensor

from pathtrain.distributed.ranks import Ranks
from pathtrain.methods.dino import Dino
from pathtrain.recipes.load import load
from pathtrain.runs import checkpoint
from pathtrain.runs.export import export
from pathtrain.runs.opening import load as load_model
from pathtrain.training.logs import rows
from pathtrain.training.loop import Loop

STEPS = 4
SETTINGS = (
    *TINY,
    "model.kwargs.depth=2",
    f"steps={STEPS}",
    "batch=8",
    "log_every=1",
    "dino.head={out_dim: 64, hidden_dim: 32, bottleneck_dim: 16, layers: 3, norm_last_layer: true}",
    "dino.drop_path=0",  # a card draws other random numbers
    "dino.freeze_last_layer_steps=1",
    "optim.warmup_steps=1",
    "optim.clip=0.3",
)
# Of losses, relative; of weights, of the way that they have moved: AdamW makes rounding errors of gradients
# that are nearly 0 as large as other steps. A card's convolutions have TF32's 10 bits, bfloat16 has 7
TOLERANCES = {"float32": (1e-3, 0.15), "bfloat16": (0.02, 0.5)}


@dataclass(frozen=True)
class Views:
    """A batch of views that lie on the device."""

    views: list[Tensor]
    tiles: npt.NDArray[np.int64] = field(default_factory=lambda: np.arange(8))
    wait: float = 0.0


class Source:
    """The same views on every device, other ones at each step."""

    def __init__(self, sides: list[int], device: torch.device, start: int) -> None:
        self.sides, self.device, self.start = sides, device, start

    def __iter__(self) -> Iterator[Views]:
        for step in range(self.start, 1_000_000):
            drawn = torch.Generator().manual_seed(step)
            views = [torch.randn(8, 3, side, side, generator=drawn) for side in self.sides]
            yield Views([view.to(self.device) for view in views])

    def name(self, tile: int) -> str:
        return str(tile)

    def news(self) -> list[str]:
        return []

    def close(self) -> None:
        pass


def steps(folder: Path, device: torch.device, *more: str) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """The rows and the student's weights after some steps."""
    folder.mkdir()
    recipe = load("smoke", [*SETTINGS, *more])
    torch.manual_seed(recipe.seed)
    method = Dino(recipe, STEPS, device)
    loop = Loop(recipe, method, folder, STEPS, "test", Ranks(device=device))
    sides = [recipe.views.globals.size] * recipe.views.globals.count
    sides += [recipe.views.locals.size] * recipe.views.locals.count
    loop.train(lambda start: Source(sides, device, start))
    student = checkpoint.load(folder)["student"]
    return rows(folder), {f"{part}.{name}": v for part in student for name, v in student[part].items()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """The CPU's steps in float32."""
    return steps(tmp_path_factory.mktemp("reference") / "run", CPU, "precision=float32", "compile=false")


@pytest.mark.parametrize(
    ("device", "precision", "compile_"),
    [
        *(pytest.param("cuda", p, c, marks=pytest.mark.gpu) for p in TOLERANCES for c in ("false", "true")),
        *(("cpu", precision, "false") for precision in TOLERANCES),
        pytest.param("cpu", "bfloat16", "true", marks=pytest.mark.slow),
    ],
    indirect=["device"],
)
@pytest.mark.filterwarnings("default")  # the compiler warns of what is its own, and of the card
def test_steps_are_those_of_the_cpu(
    reference: tuple[list[dict[str, Any]], dict[str, Tensor]],
    device: torch.device,
    tmp_path: Path,
    precision: str,
    compile_: str,
) -> None:
    expected, weights = reference
    torch.manual_seed(load("smoke", [*SETTINGS]).seed)
    first = Dino(load("smoke", [*SETTINGS]), STEPS, CPU).student.state_dict()
    found, other = steps(tmp_path / "run", device, f"precision={precision}", f"compile={compile_}")
    loss_off, weights_off = TOLERANCES[precision]
    for row, known in zip(found, expected, strict=True):
        assert row["loss"] == pytest.approx(known["loss"], rel=loss_off)
        assert row["gradient_norm"] == pytest.approx(known["gradient_norm"], rel=10 * loss_off)
    names = [name for name, value in weights.items() if value.is_floating_point()]
    way = torch.cat([(moved(n, weights[n]) - moved(n, first[n])).flatten() for n in names]).norm()
    off = torch.cat([(moved(n, other[n].cpu()) - moved(n, weights[n])).flatten() for n in names]).norm()
    assert way > 0
    assert off < weights_off * way


def test_a_run_that_is_gone_on_with_is_the_same_to_the_bit(
    dataset: Path, device: torch.device, tmp_path: Path
) -> None:
    """Through the real loader; the same command after the last checkpoint is gone, as a kill leaves it."""
    settings = ("steps=6", "checkpoint.every=3", "checkpoint.keep=9", "log_every=1")
    train(dataset, tmp_path / "straight", *settings)
    shutil.copytree(tmp_path / "straight", tmp_path / "resumed")
    for path in checkpoint.folder(tmp_path / "resumed").glob("00000006.*"):
        path.unlink()
    summary, said = train(dataset, tmp_path / "resumed", *settings)
    assert (summary.resumed_from, summary.steps) == (3, 6)
    assert f"on 1 x {device.type}" in said
    assert_same_to_the_bit(tmp_path / "resumed", tmp_path / "straight")


def test_a_run_is_exported_and_its_probes_are_live(
    dataset: Path, device: torch.device, tmp_path: Path
) -> None:
    """Trained and probed on the card; the export is opened by plain timm, and gives the CPU's features."""
    labels = tmp_path / "labels.csv"
    labels.write_text("slide,label\na,x\nb,y\nc,x\nd,y\n")
    probes = (
        f"probes.0={{kind: knn, every: 2, train: {dataset}, labels: {labels}, k: 3}}",
        "probes.1={kind: rank, every: 3}",
    )
    train(dataset, tmp_path / "run", "steps=3", "precision=bfloat16", *probes)
    logged = {row["step"]: row for row in rows(tmp_path / "run")}
    assert [step for step, row in logged.items() if "knn_accuracy" in row] == [0, 2, 3]
    assert [step for step, row in logged.items() if "rank_effective" in row] == [0, 3]
    assert logged[3]["knn_accuracy"] >= 0.5, "two colours are told apart by any network"
    export(tmp_path / "run", tmp_path / "model")
    plain = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    own = load_model(tmp_path / "run").to(device)
    pixels = torch.randint(
        0, 256, (5, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode():
        expected = plain(load_model(tmp_path / "model").normalised(pixels.permute(0, 3, 1, 2).float() / 255))
    np.testing.assert_allclose(own(pixels), expected.numpy(), rtol=1e-2, atol=1e-2)  # TF32 in the first layer
