"""The picture of a slide in a few pixels."""

import base64
import io

import numpy as np
from PIL import Image

from pathprep.slides.miniature import MOST_BYTES, OUTLINE, data_uri, fitted, miniature


def test_glass_beside_tissue_has_the_outlines_colour_and_tissue_its_own() -> None:
    overview = np.full((200, 400, 3), 240, np.uint8)
    overview[50:150, 100:200] = (180, 90, 150)
    mask = np.zeros((200, 400), bool)
    mask[50:150, 100:200] = True
    small = miniature(overview, mask, 40, 20)
    outline = (small == OUTLINE).all(2)
    tissue = np.zeros((20, 40), bool)
    tissue[5:15, 10:20] = True
    assert (small[tissue] == (180, 90, 150)).all()
    assert outline.sum() == 4 * 10
    assert outline[4, 10:20].all()
    assert outline[5:15, 20].all()
    assert not (miniature(overview, None, 40, 20) == OUTLINE).all(2).any()


def test_proportions_are_kept_and_nothing_is_enlarged() -> None:
    wide, tall, tiny = (np.zeros((h, w, 3), np.uint8) for h, w in ((100, 1000), (1000, 100), (4, 8)))
    assert fitted(wide, 40, 48) == (40, 4)
    assert fitted(tall, 40, 48) == (5, 48)
    assert fitted(tiny, 40, 48) == (8, 4)


def test_noise_too_becomes_a_small_picture() -> None:
    overview = np.random.default_rng(0).integers(0, 256, (900, 700, 3), np.uint8)
    kind, _, data = data_uri(overview, None).partition(",")
    raw = base64.b64decode(data)
    assert (kind, len(raw) <= MOST_BYTES) == ("data:image/jpeg;base64", True)
    with Image.open(io.BytesIO(raw)) as picture:
        assert abs(picture.width / picture.height - 7 / 9) < 0.05
