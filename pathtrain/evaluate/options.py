"""What the commands of ``pathtrain evaluate`` share: options, and where results are written."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pathprep import atomic
from pathprep.errors import UsageError

if TYPE_CHECKING:
    from pathtrain.models.load import LoadedModel

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


def settle_target(model: "LoadedModel", target: str) -> "LoadedModel":
    """The model with the stain target that ``--target`` names.

    Raises:
        StainError: the file cannot be read.
    """
    from pathprep import stain
    from pathtrain.models.load import with_target
    from pathtrain.target import RunTarget

    if target == "model":
        if model.target is None:
            text = f"{model.name} was trained on plain tiles: tiles are taken as they are stored"
            Console(stderr=True).print(f"{text}; --target reference normalises them", soft_wrap=True)
        return model
    goal = stain.Target.default() if target == "reference" else stain.Target.load(Path(target))
    return with_target(model, RunTarget.model_validate({"name": goal.name, **goal.as_params()}))


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
