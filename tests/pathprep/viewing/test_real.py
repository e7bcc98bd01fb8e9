"""Real slides of several formats in the viewer: pixels as OpenSlide reads them."""

import io
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from pathprep.params.shard import ShardParams
from pathprep.slides.find import SlideSource, whole
from pathprep.viewing.deep_zoom import OVERLAP, TILE
from pathprep.viewing.reading import Reading

pytestmark = pytest.mark.realdata


@pytest.mark.parametrize(
    "name", ["slides/CMU-1-Small-Region.svs", "formats/made/cmu.scn", "formats/dicom-pyramid/00.dcm"]
)
def test_tiles_are_the_slides_pixels(data: Path, name: str) -> None:
    path = data / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with Reading(whole(SlideSource(path)), ShardParams()) as reading:
        seen = reading.seen()
        last = max(seen.width, seen.height)
        level = int(np.ceil(np.log2(last)))
        data_ = reading.tile(level, 3, 4)
        assert data_ is not None
        assert reading.tile(0, 0, 0) is not None
    made = np.asarray(Image.open(io.BytesIO(data_)).convert("RGB")).astype(int)
    with openslide.OpenSlide(reading.source.path) as peer:
        assert peer.dimensions == (seen.width, seen.height)
        corner = 3 * TILE - OVERLAP, 4 * TILE - OVERLAP
        theirs = peer.read_region(corner, 0, (TILE + 2 * OVERLAP, TILE + 2 * OVERLAP))
    expected = Image.new("RGB", theirs.size, (255, 255, 255))
    expected.paste(theirs, mask=theirs.getchannel("A"))
    assert np.abs(made - np.asarray(expected)).mean() < 3  # JPEG once more
