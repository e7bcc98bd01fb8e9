"""What the commands of ``pathtrain evaluate`` share: options, tables, and where results are written."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pathprep.errors import UsageError
from pathprep.storage import atomic

if TYPE_CHECKING:
    from pathtrain.evaluate.tile_level.linear import Settings
    from pathtrain.params.encoding import How
    from pathtrain.runs.model import LoadedModel

Model = Annotated[Path, typer.Argument(help="A run folder, or an exported model.")]
Labels = Annotated[
    Path | None,
    typer.Option(help="For datasets of slides: CSV slide,label or slide,x,y,label; or a folder of GeoJSON."),
]
Size = Annotated[int | None, typer.Option(help="Side that tiles are resized to. Default: the model's.")]
Batch = Annotated[int, typer.Option(min=1, help="Tiles per forward pass.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads that decode tiles.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Precision = Annotated[str, typer.Option(help="Of the network: float32 or bfloat16.")]
Seed = Annotated[int, typer.Option(min=0, help="Of sampling, random weights and bootstrap.")]
Target = Annotated[
    str,
    typer.Option(
        help="What tiles are normalised to: model, what it was trained on (plain tiles stay plain); "
        "reference; or a file of `pathprep target`."
    ),
]


@dataclass(frozen=True)
class Training:
    """How linear layers are trained and what on.

    Attributes:
        target: as ``settle_target`` takes it.
        seed: of the split, the layers and the bootstrap.
    """

    target: str
    seed: int
    settings: "Settings"
    how: "How"


def _training(
    target: Target = "model",
    seeds: Annotated[int, typer.Option(min=1, help="Layers that are trained, from --seed on.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the layers and the bootstrap.")] = 0,
    lr: Annotated[float, typer.Option(help="Of SGD.")] = 0.1,
    momentum: Annotated[float, typer.Option(help="Of SGD.")] = 0.9,
    weight_decay: Annotated[float, typer.Option(help="Of SGD.")] = 0.0,
    sgd_batch: Annotated[int, typer.Option(min=1, help="Tiles per step of SGD.")] = 128,
    iterations: Annotated[int, typer.Option(min=1, help="Steps of SGD.")] = 12_500,
    schedule: Annotated[
        str, typer.Option(help="Of the lr: cosine (to 0) or constant; the paper does not say.")
    ] = "cosine",
    size: Annotated[int | None, typer.Option(help="Central crop. Default: the model's size.")] = None,
    resize: Annotated[
        int | None, typer.Option(help="Shorter side before the crop. Default: 256/224 of the crop.")
    ] = None,
    batch: Batch = 64,
    threads: Threads = 2,
    device: Device = "auto",
    precision: Precision = "float32",
) -> Training:
    from pathtrain.evaluate.tile_level.linear import Settings
    from pathtrain.params.encoding import How

    settings = Settings(lr, momentum, weight_decay, sgd_batch, iterations, schedule, seeds)  # type: ignore[arg-type]
    return Training(target, seed, settings, How(size, batch, threads, device, precision, resize))


def with_training(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of linear evaluation, which reach it as its argument ``training``."""
    own = [each for name, each in signature(command).parameters.items() if name != "training"]
    shared = signature(_training).parameters

    @wraps(command)
    def run(**given: Any) -> None:
        command(training=_training(**{name: given.pop(name) for name in shared}), **given)

    every = [*own, *shared.values()]
    run.__signature__ = Signature(every)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in every}
    return run


def settle_target(model: "LoadedModel", target: str) -> "LoadedModel":
    """The model with the stain target that ``--target`` names.

    Raises:
        StainError: the file cannot be read.
    """
    from pathprep import stain
    from pathtrain.runs.model import with_target
    from pathtrain.stain.target import ModelTarget

    if target == "model":
        if model.target is None:
            text = f"{model.name} was trained on plain tiles: tiles are taken as they are stored"
            Console(stderr=True).print(f"{text}; --target reference normalises them", soft_wrap=True)
        return model
    goal = stain.Target.default() if target == "reference" else stain.Target.load(Path(target))
    return with_target(model, ModelTarget.model_validate({"name": goal.name, **goal.as_params()}))


def save(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON and say where.

    Raises:
        UsageError: it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(path, result)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    Console(stderr=True).print(f"Written: {path}", soft_wrap=True)


def ends(interval: list[float]) -> str:
    """An interval as tables show it."""
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def dense(title: str) -> Table:
    """A table for many figures: without lines between columns, so that 80 columns hold more of them."""
    return Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def named(name: str) -> Text:
    """A name in the first column of a table: where the terminal is narrow it is cut, not the figures."""
    return Text(name, no_wrap=True, overflow="ellipsis")
