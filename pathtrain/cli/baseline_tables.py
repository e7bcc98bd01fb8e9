"""What the tables of evaluations say of baselines: what each is, and the model's lead over it."""

from typing import Any

from rich.table import Table

from pathtrain.cli.options import ends, named


def leads(result: dict[str, Any], first: str) -> Table | None:
    """The model less each baseline, a row per baseline; None if there is none."""
    from pathtrain.evaluate.baselines import said

    rows = [row for row in result["results"] if row["lead"]]
    if not rows:
        return None
    table = Table(title="Model less each baseline", caption_justify="left")
    table.add_column("baseline")
    for heading in (first, "balanced"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        lead = row["lead"]
        cells = [f"{lead[key]:+.3f} {ends(lead[f'{key}_interval'], '+')}" for key in ("accuracy", "balanced")]
        table.add_row(named(row["name"]), *cells)
    table.caption = "\n".join(
        [
            f"[95 % interval], paired: the same {result['group_kind']}s drawn for both",
            *said(result["baselines"]),
        ]
    )
    for row in rows:
        if "accuracy_range" in row:
            low, high = row["accuracy_range"]
            table.caption += f"; {first} of one: {low:.3f} to {high:.3f}"
    return table
