"""Micrometres per pixel: what a file says about it, in every place, and which of it is taken.

``figures`` reads numbers and units, ``texts`` and ``ome`` read descriptions, ``tags`` reads resolution tags,
``header`` gathers them for every reader alike, ``settle`` decides.
"""
