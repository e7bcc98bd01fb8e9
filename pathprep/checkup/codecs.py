"""Libraries that decode and encode, each tried in a process of its own: a broken one may crash it."""

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import NamedTuple

from pathprep.checkup.finding import Finding, Status, tried

GROUP = "Codecs"

_JPEG = """
import numpy, simplejpeg
pixels = numpy.zeros((32, 32, 3), numpy.uint8)
assert simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(pixels)).shape == pixels.shape
print("encodes and decodes")
"""
_OPENSLIDE = "import openslide; print(openslide.__library_version__)"
# A drawn slide as Aperio's scanners write it: tiles of JPEG 2000 in a TIFF
_JPEG_2000 = """
import tempfile, numpy, tifffile
from pathlib import Path
from cucim import CuImage
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "slide.tif"
    pixels = numpy.full((512, 512, 3), 200, numpy.uint8)
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", compression=33005)
    read = numpy.asarray(CuImage(str(path)).read_region((0, 0), (64, 64)))
    assert abs(read.astype(int) - 200).max() < 9, "wrong pixels"
print("decodes")
"""
_TIFF = "import imagecodecs; assert imagecodecs.JPEG8.available; print(imagecodecs.__version__)"
_DALI = "import nvidia.dali; print(nvidia.dali.__version__)"


class Library(NamedTuple):
    """What is tried: a few lines of Python, and what they are for; ``module``: none of it without that."""

    name: str
    module: str
    code: str
    status: Status
    means: str
    fix: str


_AGAIN = "pip install --force-reinstall {}"
LIBRARIES = (
    Library("libjpeg-turbo", "simplejpeg", _JPEG, "missing", "Writes tiles.", _AGAIN.format("simplejpeg")),
    Library(
        "OpenSlide",
        "openslide",
        _OPENSLIDE,
        "missing",
        "Reads the formats of most scanners.",
        _AGAIN.format("openslide-python openslide-bin"),
    ),
    Library("TIFF", "imagecodecs", _TIFF, "missing", "Reads JPEG in TIFF.", _AGAIN.format("imagecodecs")),
    Library(
        "JPEG 2000",
        "cucim",
        _JPEG_2000,
        "warning",
        "cuCIM reads such SVS, from Aperio's scanners.",
        "Install cuCIM again, or use `pathprep shard --reader openslide`.",
    ),
    Library(
        "DALI",
        "nvidia",
        _DALI,
        "warning",
        "Decodes tiles for `pathtrain`.",
        "Install the extra cuda13 or cuda12 again.",
    ),
)


def codecs() -> list[Finding]:
    """Each library that is installed, tried."""
    there = [each for each in LIBRARIES if find_spec(each.module) is not None]
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(_try, there))


def _try(library: Library) -> Finding:
    works, said = tried(library.code)
    if works:
        return Finding(library.name, GROUP, "ok", said, library.means)
    state = f"does not work: {said}"
    return Finding(library.name, GROUP, library.status, state, library.means, library.fix)
