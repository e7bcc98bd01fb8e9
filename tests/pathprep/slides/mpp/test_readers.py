"""The readers agree about MPP, on files written here and on real ones."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers.slides import tissue

from pathprep.errors import MppError, SlideError
from pathprep.slides.mpp.settle import Mpp, MppRules
from pathprep.slides.slide import Slide

READERS = ("auto", "tiff", "cucim", "openslide")
APERIO = "Aperio Image Library v1\r\n300x300 (256x256) JPEG/RGB Q=90|AppMag = 20|MPP = {}"

OME = '<OME><Image><Pixels PhysicalSizeX="500" PhysicalSizeXUnit="nm"/></Image></OME>'
TAGS = "TIFF resolution tags"


def opinions(path: Path) -> dict[str, Mpp | str]:
    """What every reader that opens the file makes of its MPP."""
    found: dict[str, Mpp | str] = {}
    for name in READERS:
        try:
            with Slide(path, name) as slide:  # type: ignore[arg-type]
                try:
                    mpp = slide.mpp(MppRules(default=7.0, high=50.0))
                    found[name] = Mpp(round(mpp.value, 4), mpp.source)
                except MppError as error:
                    found[name] = str(error)
        except SlideError:
            continue
    return found


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("name", "options", "mpp"),
    [
        ("a.svs", {"description": APERIO.format("0,4990")}, Mpp(0.499, "aperio.MPP")),
        ("a.tif", {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}, Mpp(0.5, TAGS)),
        ("a.tif", {"resolution": (72, 72), "resolutionunit": "INCH"}, Mpp(7.0, "--default-mpp")),
        ("a.tif", {"description": OME}, Mpp(0.5, "OME-XML")),
        ("a.tif", {}, Mpp(7.0, "--default-mpp")),
    ],
)  # fmt: skip
def test_files_of_either_byte_order(
    tmp_path: Path, byteorder: str, name: str, options: dict[str, object], mpp: Mpp
) -> None:
    with tifffile.TiffWriter(tmp_path / name, byteorder=byteorder) as tiff:  # type: ignore[arg-type]
        tiff.write(tissue(300, 300), tile=(256, 256), photometric="rgb", metadata=None, **options)  # type: ignore[arg-type]
    found = opinions(tmp_path / name)
    assert "auto" in found
    assert set(found.values()) == {mpp}


@pytest.mark.parametrize(
    ("size", "unit"), [(0.5, "µm"), (500, "nm"), (0.0005, "mm"), (5e-7, "m"), (5000, "Å")]
)
def test_ome_tiffs_of_tifffile(tmp_path: Path, size: float, unit: str) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        about = {
            f"PhysicalSize{axis}{key}": value for axis in "XY" for key, value in (("", size), ("Unit", unit))
        }
        tiff.write(tissue(300, 300), tile=(256, 256), photometric="rgb", metadata={"axes": "YXS", **about})
    assert set(opinions(path).values()) == {Mpp(0.5, "OME-XML")}


def test_imagej_files(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            np.zeros((300, 300, 3), np.uint8), tile=(256, 256), photometric="rgb", metadata=None,
            description="ImageJ=1.53t\nunit=micron\n", resolution=(2.0, 2.0), resolutionunit="NONE",
        )  # fmt: skip
    assert set(opinions(path).values()) == {Mpp(0.5, "ImageJ description")}


FORMATS = {
    "made/cmu-philips.tiff": 0.499, "made/cmu.scn": 0.499, "made/cmu-trestle.tif": 0.499,
    "made/cmu-subifd.ome.tif": 0.499, "made/cmu-lzw-nompp.tif": 7.0, "real/mask-pyramid.tif": 0.9724,
    "dicom-pyramid/00.dcm": 0.499, "dicom-jp2k/00.dcm": 0.998, "dicom-edge-tiles/00.dcm": 0.499,
    "real/camelyon-jpeg2000.dcm": 28.9685,
}  # fmt: skip


@pytest.mark.realdata
@pytest.mark.parametrize("name", FORMATS)
def test_real_formats(data: Path, name: str) -> None:
    path = data / "formats" / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    found = opinions(path)
    assert "auto" in found
    assert {mpp.value if isinstance(mpp, Mpp) else mpp for mpp in found.values()} == {FORMATS[name]}
