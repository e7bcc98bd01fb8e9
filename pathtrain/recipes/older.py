"""Recipes as earlier versions wrote them, in today's keys: the one place that knows the old ones.

A run keeps its recipe, and its checkpoints are evaluated, embedded with and exported as long as they last.
"""

from typing import Any

# A key that is gone -> the one that has its place, for who still types it
GONE = {"collapse": "probes"}

# Keys that runs of before do not know -> the value by which they took their steps, so that they go on
SINCE: dict[str, Any] = {
    "optim.clip_by": "tensor",
    "optim.patch_embed_scale": 1.0,
    "optim.freeze_backbone_steps": 0,
    "model.positions": "once",
    "stain.p": 1.0,
    "stain.per": "view",
    "sampling.datasets": None,
    "sampling.mpps": None,
}


def renewed(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's values with old keys in today's words; of a recipe of today, the same.

    Args:
        values: as the file has them; not changed. What is wrong in them stays for validation to name.
    """
    values = dict(values)
    if isinstance(values.get("collapse"), dict) and "probes" not in values:
        values["probes"] = _probes(values.pop("collapse"))
    return values


def _probes(collapse: dict[str, Any]) -> list[dict[str, Any]]:
    """The one score of before; ``every: 0`` was none."""
    return [{"kind": "collapse", **collapse}] if collapse.get("every", 0) else []
