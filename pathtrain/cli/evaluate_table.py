"""`pathtrain evaluate table`: a paper's tasks, for any models, beside its published rows."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pathprep.cli.command_file import is_given
from pathprep.cli.dialect import Json
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors
from pathtrain.cli.options import MODEL, Result, dense, ends, finish, kept_in, named
from pathtrain.params.evaluation import LinearParams

COLUMNS = 6  # tasks side by side, so that a terminal of 80 columns holds them
Papers = Literal["exaonepath1", "exaonepath2", "midnight", "robustness"]


@with_settings(LinearParams, without=("protocol",))
def table(
    context: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"{MODEL} NAME=MODEL: called otherwise. Default: the study file's.",
            metavar="MODEL",
        ),
    ] = None,
    *,
    settings: dict[str, Any],
    paper: Annotated[
        Papers | None,
        typer.Option(help="Whose tasks and published rows. Default: the study file's, or exaonepath1."),
    ] = None,
    tasks: Annotated[
        Path,
        typer.Option(
            help="A study file (YAML: paper, models, settings, tasks), or a folder with <task>/train and "
            "<task>/test."
        ),
    ] = Path("tasks.yaml"),
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="For the table as Markdown, CSV, LaTeX and JSON, and its figures.",
            rich_help_panel="Output",
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG", help="The mean against parameters and training slides.", rich_help_panel="Output"
        ),
    ] = None,
    as_json: Json = False,
    out_json: Result = None,
) -> None:
    """The tasks of a paper's table, those that are there, beside its published rows.

    Options that an evaluation of the paper has are given to it; how a layer is trained is of linear tasks.
    With --cache, what is finished is not made again, and torchrun shares the evaluations among processes.

    Exit code 1: an evaluation failed; the others are in the table.
    """
    from pathtrain.evaluate.papers.table import table as study
    from pathtrain.evaluate.subject import called

    given = {name: value for name, value in settings.items() if is_given(context, name)}
    result = study(models or (), tasks, paper=paper, out=out, figure=figure, **given)
    if result.get("rank"):  # rank 0 shows it
        return
    for path in (out, figure):
        if path:
            errors.print(f"Written: {path}", soft_wrap=True, markup=False)
    folders = [kept_in(Path(str(called(model)[1]))) for model in models or ()]
    name = f"{result['task'].replace(' ', '-')}.json"
    finish(context, result, name, folders, as_json, out_json, results_table)
    if any(entry["failed"] for entry in result["models"]):
        raise typer.Exit(1)


def results_table(result: dict[str, Any]) -> Group:
    """A row per model, its baselines and published row, a column per task; differences and leads below."""
    from pathtrain.evaluate.papers.written import remarks, rows

    titles = {column["key"]: column["title"] for column in result["columns"]}
    present, found = result["present"], list(rows(result))
    shown: list[Table] = []
    blocks = [present[start : start + COLUMNS] for start in range(0, len(present), COLUMNS)] or [[]]
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        title = f"{result['paper']['title']}: {result['paper']['figure']}" if number == 0 else "continued"
        table = dense(title)
        table.add_column("")
        for heading in (*(titles[key] for key in block), *(["mean"] if last else [])):
            table.add_column(heading, justify="right", no_wrap=True)
        for at, (name, kind, figures, mean) in enumerate(found):
            values = [figures.get(key) for key in block] + ([mean] if last else [])
            after = found[at + 1][1] if at + 1 < len(found) else ""
            table.add_row(
                named(f"  {name}" if kind == "baseline" else name),
                *("-" if value is None else f"{value:.3f}" for value in values),
                end_section=after == "model" or (after == "published" and kind != "published"),
            )
        shown.append(table)
    below = Text("\n".join(f"- {line}" for line in remarks(result)) + "\n")
    leads = [_leads_table(entry, titles) for entry in result["models"] if len(entry["rows"]) > 1]
    differences = [_differences_table(result, titles)] if result["differences"] else []
    return Group(*shown, below, *leads, *differences)


def _leads_table(entry: dict[str, Any], titles: dict[str, str]) -> Table:
    """A model less each of its baselines, task by task."""
    from pathtrain.evaluate.baselines import said

    table = dense(f"{entry['model']['name']} less each baseline")
    for heading in ("task", "baseline", "lead"):
        table.add_column(heading, justify="right" if heading == "lead" else "left", no_wrap=True)
    for key in entry["rows"][0]["figures"]:
        rows = [row for row in entry["rows"][1:] if key in row["leads"]]
        for row in rows:
            lead = row["leads"][key]
            value = f"{lead['lead']:+.3f} {ends(lead['interval'], '+')}"
            table.add_row(titles[key], row["name"], value, end_section=row is rows[-1])
    table.caption = "\n".join(
        ["[95 % interval], paired: the same test groups drawn for both", *said(entry["baselines"])]
    )
    return table


def _differences_table(result: dict[str, Any], titles: dict[str, str]) -> Table:
    """A model less another, task by task."""
    table = dense("Differences between models")
    for heading in ("task", "models", "difference"):
        table.add_column(heading, justify="right" if heading == "difference" else "left")
    for each in result["differences"]:
        value = f"{each['difference']:+.3f} {ends(each['interval'], '+')}"
        table.add_row(titles[each["column"]], f"{each['first']} less {each['second']}", value)
    table.caption = "[95 % interval], paired: the same test groups drawn for both; -: no groups to draw"
    return table
