"""``pathtrain evaluate collapse``: one model, or the three panels of the EXAONEPath 1.0 study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathtrain.cli.options import Batch, Device, Precision, Seed, Size, Threads, dense, ends, named, save

if TYPE_CHECKING:
    from pathtrain.params.encoding import How

PAPER_SLIDES = 10


def collapse(
    model: Annotated[Path | None, typer.Argument(help="A run folder, or an exported model.")] = None,
    dataset: Annotated[Path, typer.Argument(help="A dataset of at least 2 slides.")] = Path("dataset"),
    plain: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="MODEL DATASET", help="Instead of one model: the one trained on plain tiles."),
    ] = None,
    normalised: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="MODEL DATASET", help="With --plain: the model trained on normalised tiles."),
    ] = None,
    slides: Annotated[
        int | None,
        typer.Option(
            min=2, help="Random slides, those with enough tiles first. Default: all; 10 for panels."
        ),
    ] = None,
    tiles_per_slide: Annotated[int, typer.Option(help="Random tiles of each slide.")] = 1000,
    k: Annotated[int, typer.Option(help="Neighbours that are looked at.")] = 20,
    seed: Seed = 0,
    tsne_tiles: Annotated[
        int, typer.Option(min=1, help="Tiles of each slide in the figure; 300 of 10 slides take about 20 s.")
    ] = 300,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results. Default: evaluation/ of the run; of the normalised one for panels."
        ),
    ] = None,
    size: Size = None,
    batch: Batch = 64,
    threads: Threads = 2,
    device: Device = "auto",
    precision: Precision = "float32",
) -> None:
    """Feature collapse: how far tiles cluster by slide, against chance; with a t-SNE figure.

    --plain MODEL DATASET --normalised MODEL DATASET compares, on the same tiles of the same slides, (a) the
    plain model on plain tiles, (b) the plain model on normalised tiles, (c) the normalised model on
    normalised tiles.
    """
    from pathtrain.params.encoding import How

    how = How(size, batch, threads, device, precision)
    if plain is None and normalised is None:
        if model is None:
            raise UsageError("give a MODEL, or --plain MODEL DATASET and --normalised MODEL DATASET")
        _one(model, dataset, slides, tiles_per_slide, k, seed, tsne_tiles, out, how)
        return
    if plain is None or normalised is None:
        raise UsageError("--plain and --normalised belong together: each a model and a dataset")
    if model is not None:
        raise UsageError(f"{model}: give one model, or --plain and --normalised, not both")
    _three(plain, normalised, slides or PAPER_SLIDES, tiles_per_slide, k, seed, tsne_tiles, out, how)


def _one(
    model: Path,
    dataset: Path,
    slides: int | None,
    tiles_per_slide: int,
    k: int,
    seed: int,
    tsne_tiles: int,
    out: Path | None,
    how: "How",
) -> None:
    from pathtrain.evaluate.statistics import folder_of
    from pathtrain.evaluate.tile_level import collapse as study
    from pathtrain.evaluate.tile_level import tsne
    from pathtrain.runs.model import load

    loaded = load(model)
    folder = folder_of(loaded, out)
    result, taken = study.collapse(
        loaded, dataset, slides=slides, tiles_per_slide=tiles_per_slide, k=k, seed=seed, how=how
    )
    Console(markup=False).print(collapse_table(result))
    if folder is None:
        _no_folder()
        return
    flat, rows = tsne.place(taken, tsne_tiles, seed)
    result["tsne"] = {"file": "tsne.png", "tiles": len(rows)}
    _write(folder, "tsne.png", tsne.figure(taken, flat, rows, result))
    save(folder / "collapse.json", result)


def _three(
    plain: tuple[Path, Path],
    normalised: tuple[Path, Path],
    slides: int,
    tiles_per_slide: int,
    k: int,
    seed: int,
    tsne_tiles: int,
    out: Path | None,
    how: "How",
) -> None:
    from pathtrain.evaluate.papers import collapse_panels as panels
    from pathtrain.evaluate.statistics import folder_of
    from pathtrain.evaluate.tile_level import tsne
    from pathtrain.runs.model import load

    models = load(plain[0]), load(normalised[0])
    result, samples = panels.panels(
        (models[0], plain[1]),
        (models[1], normalised[1]),
        slides=slides,
        tiles_per_slide=tiles_per_slide,
        k=k,
        seed=seed,
        how=how,
    )
    Console(markup=False).print(panels_table(result))
    folder = folder_of(models[1], out)
    if folder is None:
        _no_folder()
        return
    places = [tsne.place(sample, tsne_tiles, seed) for sample in samples]
    result["tsne"] = {"file": "collapse-panels.png", "tiles": len(places[0][1])}
    _write(folder, "collapse-panels.png", tsne.panels(samples, places, result["panels"]))
    save(folder / "collapse-panels.json", result)


def _no_folder() -> None:
    Console(stderr=True).print("No figure and no file: give --out FOLDER for an exported model.")


def _write(folder: Path, name: str, picture: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(folder / name, picture)


def panels_table(result: dict[str, Any]) -> Table:
    """A row per panel, and what changes between them."""
    table = dense(f"Feature collapse: {result['slides']} slides, {result['tiles']} tiles, k={result['k']}")
    table.add_column("")
    for heading in ("own share", "ratio", "silhouette"):
        table.add_column(heading, justify="right", no_wrap=True)

    def cell(row: dict[str, Any], key: str, sign: str = "") -> str:
        low, high = row[f"{key}_interval"]
        return f"{row[key]:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"

    for panel in result["panels"]:
        cells = [cell(panel, "own_share"), cell(panel, "ratio"), cell(panel, "silhouette", "+")]
        table.add_row(named(panel["panel"]), *cells, end_section=panel["panel"] == "c")
    for row in result["baselines"]:
        cells = [cell(row, "own_share"), cell(row, "ratio"), cell(row, "silhouette", "+")]
        name = f"{row['name'].split()[0]} {row['tiles_of']}"
        table.add_row(named(name), *cells, end_section=row is result["baselines"][-1])
    for step, change in result["changes"].items():
        table.add_row(named(step), *(cell(change, key, "+") for key in ("own_share", "ratio", "silhouette")))
    legend = [f"{panel['panel']}: {panel['title']}" for panel in result["panels"]]
    by_chance = " ".join(f"{panel['silhouette_chance']:+.2f}" for panel in result["panels"])
    table.caption = "\n".join(
        [
            "; ".join(legend),
            "random a, colour a: random weights, and mean and SD of colour, on the tiles of a",
            "[95 % interval], bootstrap over slides",
            f"By chance: own share {result['panels'][0]['chance']:.2f}, silhouette {by_chance}",
            result["verdict"],
        ]
    )
    return table


def collapse_table(result: dict[str, Any]) -> Table:
    """All tiles first, then a row per slide."""
    table = Table(
        title=f"Feature collapse of {result['model']['name']}: {result['tiles']} tiles, k={result['k']}"
    )
    table.add_column("slide")
    for heading in ("tiles", "own share", "chance", "ratio", "silhouette"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = {"all": result, **result["slides"]}
    for name, row in rows.items():
        table.add_row(
            named(name),
            str(row["tiles"]),
            f"{row['own_share']:.3f}",
            f"{row['chance']:.3f}",
            f"{row['own_share'] / row['chance']:.2f}",
            f"{row['silhouette']:+.3f}",
            end_section=name == "all",
        )
    table.caption = (
        f"[95 % interval], bootstrap over slides:\nown share {ends(result['own_share_interval'])}, "
        f"ratio {ends(result['ratio_interval'])}"
    )
    return table
