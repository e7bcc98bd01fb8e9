"""The outlines of areas: pixels to polygons."""

import numpy as np
from scipy import ndimage
from skimage import measure

from pathprep.slides.geojson import Ring, area
from pathprep.slides.tissue import Mask

SMALL, FORMS = 256, 1 << 14  # pixels of a piece whose outline is kept for others of its form; how many


def contours(mask: Mask, width: int, height: int) -> list[list[Ring]]:
    """Outlines: a polygon per piece, [outer ring, hole, ...]; rings (n, 2) of x, y in level-0 pixels."""
    scale = np.array([width / mask.shape[1], height / mask.shape[0]])
    labels, _ = ndimage.label(mask)
    polygons = []
    known: dict[tuple[tuple[int, ...], bytes], list[Ring]] = {}  # cells are many, and of few forms
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        piece = labels[box] == number
        form = piece.shape, piece.tobytes()
        rings = known.get(form) or _rings(piece)
        if piece.size <= SMALL and len(known) < FORMS:
            known[form] = rings
        corner = np.array([box[1].start, box[0].start])
        polygons.append([(ring + corner) * scale for ring in rings])
    return polygons


def _rings(piece: Mask) -> list[Ring]:
    """[outer ring, hole, ...] of one piece, in its pixels."""
    rings = []
    for line in measure.find_contours(np.pad(piece, 1).astype(np.float32), 0.5):
        # minus the padding; a pixel's centre is at .5
        rings.append(measure.approximate_polygon(line, 0.5)[:, ::-1] - 0.5)
    outer = int(np.argmax([area(ring) for ring in rings]))
    return [rings[outer], *(ring for i, ring in enumerate(rings) if i != outer and len(ring) > 3)]
