"""What the figures of robustness mean, in sentences."""

from collections.abc import Mapping
from typing import Any

from pathtrain.evaluate.shifts.drop import LEAST


def said(result: Mapping[str, Any]) -> list[str]:
    """Sentences on the model's row, the notes, and what was left out."""
    row, by = result["results"][0], result["by"]
    lines = []
    if row.get("index") is not None:
        lines.append(_index(row, by))
    if row.get("croma") is not None:
        nearer = "the class is nearer" if row["croma"] > 0 else f"the {by} is nearer"
        lines.append(
            f"In the middle tile {nearer} (CRoMa {row['croma']:+.2f}); in {row['fragile']:.0%} of tiles "
            f"the {by} is, "
            f"and the worst tenth is at {row['tail']:+.2f}."
        )
    if row.get("margin_left_out"):
        lines.append(
            f"{row['margin_left_out']} of {result['tiles']} tiles lack {row['margin_nearest']} "
            f"neighbours of the same "
            f"class elsewhere, or of another at their own {by}: CRoMa is of the rest."
        )
    if row.get("drop") is not None:
        lines.append(_drop(row, by, len(result["drop"]["classes"])))
    if row.get("clusters") is not None:
        what = "the classes" if row["clusters"] > 0 else f"the {by}"
        lines.append(
            f"k-means finds {what} rather than the other: Rand index {row['rand_label']:+.2f} with the "
            f"class, "
            f"{row['rand_column']:+.2f} with the {by}."
        )
    if row.get("excess") is not None:
        lines.append(
            f"{row['own_share']:.0%} of the nearest tiles{_apart(result)} share the {by}, "
            f"{row['share_chance']:.0%} by chance."
        )
    if row.get("column_knn") is not None:
        one = f"Neighbours tell the {by} with balanced accuracy {row['column_knn']:.2f}"
        lines.append(
            f"{one}, the class with {row['label_knn']:.2f}."
            if row.get("label_knn") is not None
            else f"{one}."
        )
    if row.get("top10_all") is not None:
        lines.append(
            f"A tile's copy is among the 10 nearest in {row['top10_all']:.0%} of cases; the copies' "
            f"cosine is "
            f"{row['cosine_all']:.2f}."
        )
    lines += result["notes"]
    lines += [f"{name}: left out: {reason}" for name, reason in result["left_out"].items()]
    return lines


def _apart(result: Mapping[str, Any]) -> str:
    named = result["apart"] == "group" and result["group_kind"] != "tile"
    return f" of other {result['group_kind']}s" if named else ""


def _index(row: Mapping[str, Any], by: str) -> str:
    value, chance = row["index"], row["index_chance"]
    more = "the class more often than" if value > 0.5 else f"the {by} more often than"
    rest = f"the {by}" if value > 0.5 else "the class"
    against = "more" if value > chance else "less"
    return (
        f"Of neighbours that share one of the two, {value:.0%} share the class and {1 - value:.0%} the "
        f"{by}: they "
        f"share {more} {rest}. In random order {chance:.0%} would share the class: the features follow "
        f"it {against} "
        "than that."
    )


def _drop(row: Mapping[str, Any], by: str, classes: int) -> str:
    """``drop_scores`` are of the model, one list; a score at chance has nothing to lose."""
    scores, outside = row["drop_scores"], row.get("drop_outside")
    if scores[0] < 1 / classes + LEAST:
        return (
            f"Trained on even sets the class is told with {scores[0]:.2f}, and {1 / classes:.2f} is chance: "
            f"what is lost as it goes with the {by} says nothing."
        )

    def lost(drop: float) -> str:
        return f"{-drop:.1%} of the score is lost" if drop < 0 else "nothing of the score is lost"

    line = f"Where class and {by} go together in training, {lost(row['drop'])} on average"
    return f"{line}, and {lost(outside)} at other values of {by}." if outside is not None else f"{line}."
