"""Part 5: what live probes foretell."""

from small.probes.part import markdown, run

__all__ = ["markdown", "run"]
