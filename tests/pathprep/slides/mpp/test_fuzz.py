"""Many resolutions, right, wrong and damaged: no traceback, and no default where a figure is there."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from fuzz.resolution import DEFAULT, case, fuzz, judge

from pathprep.errors import MppError, SlideError
from pathprep.slides.mpp.settle import Mpp, MppRules
from pathprep.slides.slide import Slide


def test_many_cases() -> None:
    table, findings = fuzz(seed=0, numbers=range(1500))
    assert findings == []
    assert min(table[outcome] for outcome in ("read", "refused", "default")) > 100


@pytest.mark.slow
def test_very_many_cases() -> None:
    assert fuzz(seed=1, numbers=range(50_000))[1] == []


def test_a_silent_default_would_be_found() -> None:
    right = next(each for each in (case(0, n) for n in range(100)) if isinstance(each.expected, float))
    assert judge(right._replace(description="", tags=(None, None, None)))[0] == "finding"


def made_of(path: Path, reader: str) -> Mpp | str:
    try:
        with Slide(path, reader) as slide:  # type: ignore[arg-type]
            made = slide.mpp(MppRules(default=DEFAULT))
            return Mpp(round(made.value, 6), made.source)
    except MppError as error:
        return str(error)


def test_every_reader_makes_the_same_of_a_file(tmp_path: Path) -> None:
    pixels = np.full((32, 32, 3), 200, np.uint8)
    seen = 0
    for each in (case(2, number) for number in range(60)):
        if each.expected == "any":
            continue
        x, y, unit = each.tags
        path = tmp_path / f"{each.number}.tif"
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(
                pixels, tile=(16, 16), photometric="rgb", metadata=None,
                description=each.description.encode() or None,
                resolution=None if x is None else (x, y), resolutionunit=unit,
            )  # fmt: skip
        made = set()
        for reader in ("auto", "tiff", "cucim", "openslide"):
            try:
                made.add(made_of(path, reader))
            except SlideError:
                continue  # not its kind of file
        assert len(made) == 1, (each, made)
        seen += 1
    assert seen > 30
