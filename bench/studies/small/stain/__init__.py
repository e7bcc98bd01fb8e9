"""Part 2: what stain does to small encoders, and what is done against it."""

from small.stain.part import markdown, run

__all__ = ["markdown", "run"]
