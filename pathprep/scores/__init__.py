"""Scores of tiles: read, checked against their slide, and drawn for other programs."""
