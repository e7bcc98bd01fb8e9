"""Real data sets as their authors and tools wrote them."""

from pathlib import Path

import numpy as np
import pytest

from pathtrain.data.segmented.images import check_apart, open_images
from pathtrain.data.segmented.mask_files import read_instances
from pathtrain.data.segmented.numbering import numbered, preset_of
from pathtrain.data.segmented.shapes import as_said

pytestmark = pytest.mark.realdata

CELLS = "other,inflammatory,epithelial,spindle"


def test_consep_tiles_with_classes_and_objects(data: Path) -> None:
    sets = [open_images(data / "consep", side) for side in ("train", "test")]
    check_apart(sets)
    (train, test), classes = numbered(sets, preset_of("auto", sets), CELLS)
    assert (len(train), classes[1:]) == (432, CELLS.split(","))
    assert test.account.instances
    truth = train.truth(0)
    assert truth.instances is not None
    # every object has pixels of one class, and nothing else has
    np.testing.assert_array_equal(truth.instances > 0, truth.classes > 0)


def test_monusacs_slide_and_outlines_of_imagescope(data: Path) -> None:
    sets = [open_images(data / "monusac" / "original", "train")]
    preset = preset_of("auto", sets)
    (images,), classes = numbered(sets, preset, None)
    assert classes == ["background", "epithelial", "lymphocyte", "neutrophil", "macrophage"]
    truth = images.truth(0)
    assert truth.classes.shape == images.pixels(0).shape[:2] == (1153, 1307)
    assert set(np.unique(truth.classes)) == {0, 1, 4}


def test_monusegs_outlines_are_its_objects(data: Path) -> None:
    name = "TCGA-21-5784-01Z-00-DX1"
    drawn = as_said(data / "monuseg" / "xml" / f"{name}.xml.gz", 1000, 1000).instances
    kept = read_instances(data / "monuseg" / "inst" / f"{name}.png")
    assert drawn is not None
    assert int(drawn.max()) == int(kept.max()) == 398
    # another program's raster holds the pixels on the line too
    assert ((drawn > 0) & (kept > 0)).sum() > 0.9 * ((drawn > 0) | (kept > 0)).sum()


def test_lesion_masks_of_one_bit(data: Path) -> None:
    sets = [open_images(data / "ebhi", "test")]
    (images,), classes = numbered(sets, None, None)
    assert classes == ["background", "foreground"]
    assert 0 < images.truth(0).classes.mean() < 1
