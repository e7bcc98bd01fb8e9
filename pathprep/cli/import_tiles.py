"""`pathprep import-tiles`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from pathprep.cli.command_file import save_command
from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.launch import Launch
from pathprep.cli.messages import said
from pathprep.cli.options import (
    MaxUnfitted,
    MinFree,
    Pseudonymise,
    Rebuild,
    SlideTimeout,
    Target,
    end,
    too_many_unfitted,
)
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors, output
from pathprep.params.presets import PresetName
from pathprep.params.running import MIN_FREE_GB, SLIDE_TIMEOUT_S
from pathprep.params.tile_set import TileParams
from pathprep.words import counted

if TYPE_CHECKING:
    from pathprep.tilesets.import_tiles import Imported

GOES_IN = "What goes in"
STAIN_WORDS = {"slide_fit": "pooled fit of the group or shard"}
SHOWN = 10  # damaged images that are printed; failed/ names all


def _presets(asked: bool) -> None:
    """Show every preset and end."""
    if asked:
        from pathprep.tilesets.presets.registry import described, presets

        for name in presets():
            for line in described(name):
                output.print(line, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit


def _column(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel=GOES_IN)


@with_settings(TileParams, stain="")
@with_settings(Launch, into="launch")
def import_tiles(
    *,
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(help="Folder of a tile set: PCam's HDF5, a folder per class, or images and a CSV."),
    ],
    out: Annotated[Path, typer.Option(help="The dataset folder.")] = Path("dataset"),
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV, Parquet; default: labels.csv or annotations.csv in SOURCE."),
    ] = None,
    preset: Annotated[
        PresetName | None,
        typer.Option(
            help="A published set: its layout, labels, groups, split and MPP are known; --presets shows them."
        ),
    ] = None,
    presets: Annotated[
        bool,
        typer.Option(
            "--presets",
            callback=_presets,
            is_eager=True,
            help="Show the presets (layout, split, licence, where to get the set), and end.",
        ),
    ] = False,
    split: Annotated[str | None, typer.Option(help="Only this partition, such as train.")] = None,
    settings: dict[str, Any],
    workers: Annotated[int | None, typer.Option(help="Shards at a time; default: one per core.")] = None,
    format: Annotated[
        Literal["hdf5", "folders", "csv"] | None, _column("Default: what the folder looks like.")
    ] = None,
    file_column: Annotated[str | None, _column("Of the CSV; default: file, Image Name, ...")] = None,
    label_column: Annotated[str | None, _column("Default: label, Majority Vote Label, class.")] = None,
    group_column: Annotated[str | None, _column("Default: group, patient, case_id, wsi, slide, ...")] = None,
    split_column: Annotated[str | None, _column("Default: split, Partition.")] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Of the set, in shard names; default: SOURCE's.", rich_help_panel="Output"),
    ] = None,
    target: Target = None,
    max_unfitted: MaxUnfitted = 0.25,
    rebuild: Rebuild = False,
    slide_timeout: SlideTimeout = SLIDE_TIMEOUT_S,
    min_free: MinFree = MIN_FREE_GB,
    pseudonymise: Pseudonymise = None,
    launch: dict[str, Any],
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Make a dataset, as `shard` writes it, of a labelled tile set; labels and groups go into the index.

    Plain JPEGs keep their picture to the bit, without metadata, unless --stain bake changes it. Run again to
    go on: finished shards are skipped if their images are unchanged.
    Exit code 0: every image is in; 1: some were left out; 2: wrong usage; 130, 143: interrupted.
    """
    launching = Launch(**launch)
    launching.check(context)
    part, launcher = launching.numbers(), launching.start()
    from pathprep.cli.console import watcher
    from pathprep.storage.tables import Columns
    from pathprep.tilesets import import_tiles as front

    columns = Columns(file_column, label_column, group_column, split_column)
    what: dict[str, Any] = {"format": format, "labels": labels, "split": split, "name": name}
    what |= {"columns": columns, "target": target, "rebuild": rebuild, **settings}
    what |= {"pseudonymise": pseudonymise, "preset": preset}
    if launching.launcher == "slurm":
        params, plan = front.planned(source, out, **what)
        launching.submit_array(context, out, params.as_dict(), plan)
        return
    how: dict[str, Any] = {"workers": workers, "launcher": launcher, "part": part}
    how["slide_timeout"] = slide_timeout
    with watcher(errors, "shards") as watch:
        done = front.import_tiles(source, out, **what, **how, min_free=min_free, watch=watch)
    give(done.as_dict(), as_json, out_json, lambda: _print(done))
    if part is None and not done.run.stopped:  # by a full disk, which would not take it
        save_command(context, out, without=("presets",), private=pseudonymise is not None)
    unfitted = too_many_unfitted(done.run, max_unfitted)
    end(done.run, rebuild=rebuild, incomplete=bool(done.damaged) or unfitted)


def _print(done: "Imported") -> None:
    from rich.table import Table

    from pathprep.cli.console import print_damaged

    summary, facts, bad = done.run, done.run.as_dict(), done.damaged
    table = Table(title=escape(f"Dataset {summary.root}"), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    made = f"{facts['done']} made"
    if facts["already_done"]:
        made += f", {facts['already_done']} already there"
    if summary.failures:
        made += f", [red]{len(summary.failures)} failed[/red]"
    table.add_row("Shards", made)
    table.add_row("Tiles", f"{facts['tiles']:,} ({facts['tiles_made']:,} made now)")
    if bad:
        table.add_row("Left out", f"[red]{counted(len(bad), 'damaged or missing image')}[/red]")
    labels = ", ".join(f"{label or '(none)'} {count:,}" for label, count in sorted(done.labels.items()))
    table.add_row("Labels", escape(labels))
    if set(facts["stain"]) - {"none"}:
        table.add_row("Stain", ", ".join(f"{STAIN_WORDS.get(k, k)} {v:,}" for k, v in facts["stain"].items()))
    table.add_row("Time", f"{facts['seconds']:.1f} s, {facts['tiles_per_second']:,.0f} tiles/s")
    table.add_row("Build id", summary.build_id)
    output.print(table)
    for each in bad[:SHOWN]:
        output.print(f"[red]left out[/red]  {escape(f'{each.image}: {each.error}')}", soft_wrap=True)
    if len(bad) > SHOWN:
        output.print(
            f"and {len(bad) - SHOWN:,} more; {escape(str(summary.root))}/failed names all", soft_wrap=True
        )
    for name, entry in sorted(summary.failures.items()):
        output.print(f"[red]failed[/red]  {escape(name)}: {escape(said(entry.error))}", soft_wrap=True)
    print_damaged(output, summary)
    if summary.stale:
        output.print(
            f"[yellow]{counted(len(summary.stale), 'shard')} here made with other "
            "parameters[/yellow]: no part of "
            f"the dataset until they are made again: {escape(', '.join(summary.stale[:5]))}",
            soft_wrap=True,
        )
