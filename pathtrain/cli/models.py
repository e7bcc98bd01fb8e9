"""`pathtrain models`: the public encoders that are known by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.printable import CleanConsole
from pathprep.errors import UsageError
from pathprep.words import command
from pathtrain.cli.options import named

if TYPE_CHECKING:
    from pathtrain.models.public.schema import Entry


def models(
    name: Annotated[str | None, typer.Argument(help="One of them: all that is known of it.")] = None,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """List public encoders: `embed`, `evaluate` and --set model.init=... take them by name.

    Weights are fetched from the Hugging Face hub; without internet, give them: --weights FILE.
    """
    from pathtrain.models.public import registry

    console = CleanConsole(markup=False)
    if name is None:
        known = registry.entries()
        result = {key: as_dict(each) for key, each in known.items()}
        give(result, as_json, out_json, lambda: console.print(table(known)))
        return
    entry = registry.entry(name)
    if entry is None:
        similar = registry.similar(name)
        hint = f"; is it {' or '.join(similar)}?" if similar else "; `pathtrain models` lists them"
        raise UsageError(f"`name` {name}: no public encoder of that name is known{hint}")
    told = {"name": name.lower(), **as_dict(entry)}
    give(told, as_json, out_json, lambda: console.print(facts(name.lower(), entry)))


def as_dict(entry: "Entry") -> dict[str, Any]:
    """As JSON has it."""
    return {**entry.model_dump(mode="json"), "place": entry.place}


def table(entries: "dict[str, Entry]") -> Table:
    """A row per encoder."""
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption_justify="left")
    found.add_column("name", no_wrap=True, min_width=max(map(len, entries)))
    found.add_column("architecture", min_width=8)  # cut where the terminal is narrow, as is the licence
    for heading, widest in (("px", 3), ("MPP", 4), ("width", 5), ("M", 5)):
        found.add_column(heading, justify="right", no_wrap=True, min_width=widest)
    found.add_column("licence", min_width=11)
    found.add_column("gated", no_wrap=True, min_width=5)
    for name, entry in entries.items():
        found.add_row(
            name,
            named(entry.network),
            str(entry.size),
            f"{entry.mpp[0]:g}{'+' * (len(entry.mpp) > 1)}" if entry.mpp else "-",
            f"{entry.width:,}",
            f"{entry.parameters:,.0f}",
            named(entry.licence),
            "yes" if entry.gated else "",
        )
    found.caption = (
        "px, MPP: of the images that it takes; + at other MPPs too, - natural images. width: numbers of a "
        "tile, in the published read-out. M: million parameters. gated: accept the licence on the hub first. "
        "`pathtrain models NAME` has the rest, with sources and what is unsure."
    )
    return found


def facts(name: str, entry: "Entry") -> Group:
    """All of one, and the commands to use it with."""
    terms = {True: "allowed", False: "not allowed", None: "not known"}[entry.commercial]
    rows: dict[str, Any] = {
        "architecture": f"{entry.network} ({entry.timm}"
        + "".join(f", {key} {value}" for key, value in entry.arguments.items())
        + ")",
        "parameters": f"{entry.parameters:,g} million",
        "images": f"{entry.size} px"
        + (f", cut out of tiles resized to {entry.short} px by its authors" if entry.short else ""),
        "MPP": ", ".join(f"{each:g}" for each in entry.mpp) or "trained on natural images",
        "normalisation": f"mean {list(entry.mean)}, SD {list(entry.std)}",
        "stain": entry.stain and f"normalised: {entry.stain}",
        "read-out": f"{entry.readout}, {entry.width:,} numbers",
        "licence": f"{entry.licence}; commercial use {terms}",
        "weights": entry.place + (", gated: accept its licence there first" if entry.gated else ""),
        "sources": "\n".join(entry.sources),
        "unsure": "\n".join(entry.unsure),
    }
    found = Table(box=None, show_header=False, pad_edge=False)
    found.add_column(no_wrap=True, style="bold")
    found.add_column(overflow="fold")
    for key, value in rows.items():
        if value:
            found.add_row(key, str(value))
    return Group(Text(entry.title, style="bold"), found, Text(), Text(usage(name, entry)))


def usage(name: str, entry: "Entry") -> str:
    """How to embed with it, from the shell: straight from slides, or from a dataset."""
    mpp = f" --mpp {entry.mpp[0]:g}" if entry.mpp else ""
    bake = " --stain bake" if entry.stain else ""
    side = entry.short or entry.size
    out = ("--out", Path("features") / name)
    crop = f" --resize {entry.short} --size {entry.size}" if entry.short else ""
    weights = " --weights FILE" if entry.hub is None else ""
    straight, stored = (
        command("pathtrain embed", name, given, *out).strip("`") for given in ("slides", "dataset")
    )
    tile = f" --tile {side}" if entry.short else ""
    lines = [
        f"{straight}{tile}{bake}{crop}{weights}",
        "",
        "Or from a dataset:",
        f"pathprep shard slides --tile {side}{mpp}{bake}",
        f"{stored}{crop}{weights}",
    ]
    if entry.hub is None:
        return "\n".join(lines)
    if entry.gated:
        lines.insert(0, "export HF_TOKEN=...")
    lines += ["", f"Without internet: --weights FILE, from `hf download {entry.hub}`."]
    return "\n".join(lines)
