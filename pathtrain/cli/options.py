"""What the commands of `pathtrain evaluate` share: options, tables, and where results are kept."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pathprep.cli.command_file import save_command
from pathprep.cli.dialect import give
from pathprep.cli.printable import CleanConsole
from pathprep.params.origin import AskedOrigin

MODEL = "A run, an exported folder, a public encoder (`pathtrain models`), hf-hub:OWNER/NAME, or a timm name."
Model = Annotated[Path, typer.Argument(help=MODEL)]
Labels = Annotated[
    Path | None,
    typer.Option(help="For datasets of slides: CSV slide,label or slide,x,y,label; or a folder of GeoJSON."),
]
LabelOrigin = Annotated[
    AskedOrigin,
    typer.Option(
        help="What GeoJSON counts from on slides with bounds (MRXS, SCN, VMS, BIF): bounds as QuPath does, "
        "slide as OpenSlide does; auto: what it says."
    ),
]
Result = Annotated[
    Path | None,
    typer.Option(
        "--out-json",
        metavar="FILE",
        help="Where the result is written. Default: the run's folder evaluation.",
        rich_help_panel="Output",
    ),
]


def finish(
    context: typer.Context,
    result: dict[str, Any],
    name: str,
    folders: Sequence[Path | None],
    as_json: bool,
    out_json: Path | None,
    table: Callable[[dict[str, Any]], RenderableType],
) -> None:
    """Show a result, or print it as JSON, and keep it with the options that it was made with.

    Args:
        name: of the result's file.
        folders: where it is kept, beside the options; None: of a model that has no folder.
        out_json: where it is kept instead, without the options.

    Raises:
        UsageError, OSError: a file cannot be written.
    """
    kept = [folder / name for folder in folders if folder is not None]
    paths = [out_json] if out_json is not None else kept
    for path in paths[1:]:
        give(result, False, path, lambda: None)
    give(
        result, as_json, paths[0] if paths else None, lambda: CleanConsole(markup=False).print(table(result))
    )
    for path in kept if out_json is None else ():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_command(context, path.parent)


def kept_in(model: Path) -> Path | None:
    """Where results on a model go: the run's own folder (its report looks there); None for an export."""
    return model / "evaluation" if (model / "recipe.yaml").is_file() else None


def ends(interval: list[float] | None, sign: str = "") -> str:
    """An interval as tables show it; a dash where there is none (one group, or one seed)."""
    return "-" if interval is None else f"[{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]"


def prepared(result: dict[str, Any]) -> str:
    """How tiles were made images of."""
    if result["crop"] is None:
        return f"whole tiles at {result['resize']} px"
    return f"resize {result['resize']}, crop {result['crop']}"


def dense(title: str) -> Table:
    """A table for many figures: without lines between columns, so that 80 columns hold more of them."""
    return Table(
        title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption_justify="left"
    )


def named(name: str) -> Text:
    """A name in the first column of a table: where the terminal is narrow it is cut, not the figures."""
    return Text(name, no_wrap=True, overflow="ellipsis")
