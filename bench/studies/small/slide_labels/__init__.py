"""Part 3: slide labels through all three stages."""

from small.slide_labels.part import markdown, run

__all__ = ["markdown", "run"]
