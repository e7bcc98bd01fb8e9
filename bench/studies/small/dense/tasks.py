"""The tasks that are no classes of tiles: CoNSeP's nuclei (dense/nuclei.py) and expression of genes
(dense/spots.py)."""

from collections.abc import Mapping, Sequence
from typing import Any

from small.core import paired
from small.core.config import Study
from small.core.encoders import BASELINES, Encoder
from small.dense import nuclei, spots


def scored(study: Study, encoders: Sequence[Encoder], settings: nuclei.Segmentation) -> dict[str, Any]:
    """Both tasks: each encoder that is no baseline is compared with all others.

    Returns:
        ``segmentation`` and ``expression``, as dense/nuclei.py and dense/spots.py give them, and
        ``sentences`` on the first encoder.

    Raises:
        TestGroups: before the choice is made.
    """
    names = [each.name for each in encoders]
    arms = [name for name in names if name not in BASELINES]
    sizes = {settings.size or each.size for each in encoders}
    others = list(dict.fromkeys([*names, *BASELINES, *map(nuclei.colour_at, sorted(sizes))]))
    against = {arm: [other for other in others if other != arm] for arm in arms}
    found: dict[str, Any] = {
        "segmentation": nuclei.segmentation(study, encoders, settings, against),
        "expression": spots.expression(study, encoders, against),
    }
    rows = [*found["segmentation"]["rows"], *found["expression"]["rows"]]
    return {**found, "sentences": paired.summaries(rows, arms[:1])}


def markdown(result: Mapping[str, Any]) -> str:
    """Both tasks as tables, after the sentences."""
    lines = [*(f"- {line}" for line in result["sentences"]), ""]
    lines += ["### CoNSeP, segmentation", "", nuclei.markdown(result["segmentation"]), ""]
    lines += ["### her2st, expression of genes", "", spots.markdown(result["expression"]), ""]
    return "\n".join(lines)
