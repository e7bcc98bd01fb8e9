"""How to make a file that is read of one that is not: commands of libvips (https://www.libvips.org), which
opens what libtiff, libpng and libjpeg do."""

from pathlib import Path
from typing import Any, NoReturn

from pathprep.errors import UnreadableSlide

TIFF = "tile,pyramid,bigtiff,compression=jpeg,Q=90"
# from whatever vips opens
TILED = f"convert it, for example `vips copy in.tif 'out.tif[{TIFF}]'`"
# channels in an image each
JOINED = (
    f"join them, for example `vips bandjoin 'in.tif[page=0] in.tif[page=1] in.tif[page=2]' 'out.tif[{TIFF}]'`"
)
FLAT = f"compose it on white, for example `vips flatten in.tif 'out.tif[{TIFF}]' --background 255`"
DEEP = (
    f"scale it to 8 bits, for example `vips linear in.tif 'out.tif[{TIFF}]' 0.00389105 0 --uchar` "
    "(255 / 65535; 0.0622711 where 12 of 16 bits are used)"
)


def bits(found: int) -> str:
    """The command for samples of so many bits."""
    return DEEP if found > 8 else TILED


def tiled(name: str) -> str:
    """The command for a picture that is not tiled."""
    return f"convert it, for example `vips copy {name} '{name.rpartition('.')[0] or name}-tiled.tif[{TIFF}]'`"


def refuse_strips(path: Path, page: Any) -> NoReturn:
    """Refuses a TIFF in strips.

    Raises:
        UnreadableSlide: always.
    """
    raise UnreadableSlide(
        f"{path}: a TIFF of {page.imagewidth}x{page.imagelength} px in strips, which is not "
        f"tiled as slides are; {tiled(path.name)}"
    )
