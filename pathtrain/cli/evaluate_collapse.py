"""`pathtrain evaluate collapse`: one model, or the three panels of the EXAONEPath 1.0 study."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pathprep.cli.dialect import Json
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors
from pathprep.errors import UsageError
from pathprep.words import counted
from pathtrain.cli.options import LabelOrigin, Labels, Result, dense, ends, finish, kept_in, named, prepared
from pathtrain.params.evaluation import CollapseParams

EXCESS = "Excess: (own share - chance) / (1 - chance), 0 none, 1 full collapse"


@with_settings(CollapseParams)
def collapse(
    context: typer.Context,
    settings: dict[str, Any],
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
    labels: Labels = None,
    label_origin: LabelOrigin = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for result and figure. Default: evaluation/ of the run; of the normalised one for "
            "panels.",
            rich_help_panel="Output",
        ),
    ] = None,
    as_json: Json = False,
    out_json: Result = None,
) -> None:
    """Feature collapse: how far tiles cluster by slide, against chance; with a t-SNE figure.

    --plain MODEL DATASET --normalised MODEL DATASET compares, on the same tiles of the same slides, (a) the
    plain model on plain tiles, (b) the plain model on normalised tiles, (c) the normalised model on
    normalised tiles. With --labels (imported tiles bring theirs), also collapse within a class, and how well
    neighbours from other slides tell the labels.
    """
    if (plain is None) != (normalised is None):
        raise UsageError("`plain` and `normalised` belong together: each a model and a dataset")
    if model is None and plain is None:
        raise UsageError("give a MODEL, or --plain MODEL DATASET and --normalised MODEL DATASET")
    if model is not None and plain is not None:
        raise UsageError(f"{model}: give one model, or --plain and --normalised, not both")
    from pathtrain.evaluate.papers.collapse_panels import panels
    from pathtrain.evaluate.tile_level.collapse import collapse as study

    if plain is not None and normalised is not None:
        folder = out or kept_in(normalised[0])
        result = panels(plain, normalised, labels=labels, label_origin=label_origin, out=folder, **settings)
        name, table = "collapse-panels.json", panels_table
    else:
        assert model is not None
        folder = out or kept_in(model)
        result = study(model, dataset, labels=labels, label_origin=label_origin, out=folder, **settings)
        name, table = "collapse.json", collapse_table
    finish(context, result, name, [folder], as_json, out_json, table)
    if folder is None:
        errors.print("No figure: give --out FOLDER for an exported model.")


def panels_table(result: dict[str, Any]) -> Table:
    """A row per panel, and what changes between them."""
    table = dense(
        f"Feature collapse: {counted(result['slides'])}, {counted(result['tiles'], 'tile')}, k={result['k']}"
    )
    table.add_column("")
    for heading in ("own share", "excess", "silhouette"):
        table.add_column(heading, justify="right", no_wrap=True)

    def cell(row: dict[str, Any], key: str, sign: str = "") -> str:
        low, high = row[f"{key}_interval"]
        return f"{row[key]:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"

    for panel in result["panels"]:
        cells = [cell(panel, "own_share"), cell(panel, "excess"), cell(panel, "silhouette", "+")]
        table.add_row(named(panel["panel"]), *cells, end_section=panel["panel"] == "c")
    for row in result["baselines"]:
        cells = [cell(row, "own_share"), cell(row, "excess"), cell(row, "silhouette", "+")]
        name = f"{row['name'].split()[0]} {row['tiles_of']}"
        table.add_row(named(name), *cells, end_section=row is result["baselines"][-1])
    for step, change in result["changes"].items():
        table.add_row(named(step), *(cell(change, key, "+") for key in ("own_share", "excess", "silhouette")))
    legend = [f"{panel['panel']}: {panel['title']}" for panel in result["panels"]]
    by_chance = " ".join(f"{panel['silhouette_chance']:+.2f}" for panel in result["panels"])
    table.caption = "\n".join(
        [
            "; ".join(legend),
            "random a, colour a: random weights, and mean and SD of colour, on the tiles of a",
            f"[95 % interval] over slides; {prepared(result)}",
            EXCESS,
            f"By chance: own share {result['panels'][0]['chance']:.2f}, silhouette {by_chance}",
            *(
                f"{row.get('panel') or row['name'].split()[0] + ' ' + row['tiles_of']}: {line}"
                for row in (*result["panels"], *result["baselines"])
                for line in labelled_lines(row)
            ),
            result["verdict"],
        ]
    )
    return table


def collapse_table(result: dict[str, Any]) -> Table:
    """All tiles first, then a row per slide."""
    table = Table(
        title=f"Feature collapse of {result['model']['name']}: {counted(result['tiles'], 'tile')}, "
        f"k={result['k']}"
    )
    table.add_column("slide")
    for heading in ("tiles", "own share", "chance", "excess", "silhouette"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = {"all": result, **result["slides"]}
    for name, row in rows.items():
        table.add_row(
            named(name),
            str(row["tiles"]),
            f"{row['own_share']:.3f}",
            f"{row['chance']:.3f}",
            f"{row['excess']:.2f}",
            f"{row['silhouette']:+.3f}",
            end_section=name == "all",
        )
    table.caption = "\n".join(
        [
            f"{prepared(result)}; [95 % interval] over slides:",
            f"own share {ends(result['own_share_interval'])}, excess {ends(result['excess_interval'])}",
            EXCESS,
            *labelled_lines(result),
        ]
    )
    return table


def labelled_lines(result: dict[str, Any]) -> list[str]:
    """Collapse within a class and content; nothing where tiles have no labels."""
    lines = []
    if "within" in result:
        found = result["within"]
        lines.append(
            "within a class: no class is on several slides"
            if found is None
            else f"within a class: own share {found['own_share']:.3f}, chance {found['chance']:.3f}, excess "
            f"{found['excess']:.2f} {ends(found['excess_interval'])}"
        )
        found = result["content"]
        lines.append(
            "content: the labels are of one class, or of one slide"
            if found is None
            else f"content, labels by other slides' neighbours: balanced {found['balanced']:.3f} "
            f"{ends(found['balanced_interval'])}"
        )
    return lines
