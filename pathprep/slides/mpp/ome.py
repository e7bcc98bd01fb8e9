"""The physical size of pixels in OME-XML, of any schema since 2003.

Read with regular expressions, not with an XML parser: descriptions are cut off, wrongly encoded or of many
megabytes in real files, and what is looked for is the attributes of one element.
"""

import html
import re
from itertools import islice
from pathlib import Path

from pathprep.slides.mpp.figures import shown
from pathprep.slides.mpp.statement import Statement, read

SOURCE = "OME-XML"
LARGEST_COMPANION = 1 << 24
MOST = 1 << 16  # elements that are looked at
_OME = re.compile(r"<(?:\w+:)?OME\b")
# Image carries the pixel size in the schema of 2003, Pixels since 2007
_ELEMENT = re.compile(r"<(?:\w+:)?(Image|Pixels)\b((?:[^<>\"']|\"[^\"]*\"|'[^']*')*)")
_ATTRIBUTE = re.compile(r"(?<![\w.:-])([A-Za-z_][\w.:-]{0,99})\s{0,99}=\s{0,99}(?:\"([^\"]*)\"|'([^']*)')")
_SIZES = frozenset({"PhysicalSizeX", "PhysicalSizeY", "PixelSizeX", "PixelSizeY"})
_CUT = re.compile(r"(?<![A-Za-z])(?:PhysicalSize|PixelSize)[XY]\b.{0,40}", re.DOTALL)
_BINARY_ONLY = re.compile(r"<(?:\w+:)?BinaryOnly\b([^<>]*)")


def is_ome(text: str) -> bool:
    """Whether a description is OME-XML."""
    return _OME.search(text[:65536]) is not None


def statements(text: str, width: int, height: int, path: Path | None = None) -> list[Statement]:
    """The resolution of the image of this size, or of the first.

    Args:
        text: OME-XML without comments. width, height: of level 0, pixels.
        path: of the slide, beside which a companion file may stand.
    """
    elsewhere = _BINARY_ONLY.search(text)
    if elsewhere is not None and path is not None:
        return _companion(attributes(elsewhere[1]), width, height, path)
    images: list[dict[str, str]] = []
    for kind, inside in (found.groups() for found in islice(_ELEMENT.finditer(text), MOST)):
        if kind == "Image":
            images.append({})
        elif not images:
            images.append({})  # the start was lost
        images[-1] |= attributes(inside)
    sized = [
        image for image in images if (image.get("SizeX"), image.get("SizeY")) == (str(width), str(height))
    ]
    image = (sized or images or [{}])[0]
    for key in ("PhysicalSize", "PixelSize"):
        x, y = image.get(f"{key}X"), image.get(f"{key}Y")
        units = image.get(f"{key}XUnit") or None, image.get(f"{key}YUnit") or None
        found = read(SOURCE, f"{key}X" if y is None else f"{key}X, Y", x, y, "µm", units)
        if found is not None:
            return [found]
    cut = _CUT.search(text)
    if cut is not None and not any(_SIZES & image.keys() for image in images):
        return [Statement(SOURCE, shown(cut[0]), problem="where the text is damaged or cut off")]
    return []


def without_images(text: str) -> str:
    """The annotations: what remains without the elements that ``statements`` reads."""
    return _ELEMENT.sub("", text)


def without_comments(text: str) -> str:
    """XML without its comments; one that does not end goes on to the end of the text."""
    kept, at = [], 0
    while (start := text.find("<!--", at)) >= 0:
        kept.append(text[at:start])
        end = text.find("-->", start + 4)
        at = len(text) if end < 0 else end + 3
    return "".join([*kept, text[at:]])


def attributes(inside: str) -> dict[str, str]:
    """The attributes of an element."""
    return {
        name.rpartition(":")[2]: html.unescape(double or single)
        for name, double, single in _ATTRIBUTE.findall(inside)
    }


def _companion(binary_only: dict[str, str], width: int, height: int, path: Path) -> list[Statement]:
    """What the metadata file states that an OME-TIFF names instead of its own metadata."""
    name = binary_only.get("MetadataFile", "")
    quote = f"MetadataFile = {shown(name)}"
    # its name only: a slide is not to say which files are opened
    beside = path.parent / Path(name.replace("\\", "/")).name
    if not name or beside == path or not beside.is_file() or beside.stat().st_size > LARGEST_COMPANION:
        return [Statement(SOURCE, quote, problem="its metadata stands in that file, which is not beside it")]
    return statements(without_comments(beside.read_text("utf-8", "replace")), width, height)
