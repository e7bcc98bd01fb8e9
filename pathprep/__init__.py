"""Slides to tissue tiles to Macenko stain normalisation to WebDataset shards."""

__version__ = "0.1.0"
