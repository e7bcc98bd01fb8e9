"""Part 4: regularisers, and post-training on larger views."""

from small.resolution.part import markdown, run

__all__ = ["markdown", "run"]
