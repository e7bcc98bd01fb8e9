"""Tasks that are no classes of tiles: nuclei to be outlined, genes to be told."""

from small.dense.tasks import markdown, scored

__all__ = ["markdown", "scored"]
