"""How to make a file that is read of one that is not: commands of libvips (https://www.libvips.org), which
opens what libtiff, libpng and libjpeg do. Tried with vips 8.14."""

TIFF = "tile,pyramid,bigtiff,compression=jpeg,Q=90"
TILED = f"convert it, for example `vips copy in.tif 'out.tif[{TIFF}]'`"
COLOURS = f"convert it, for example `vips colourspace in.tif 'out.tif[{TIFF}]' srgb`"
FLAT = f"compose it on white, for example `vips flatten in.tif 'out.tif[{TIFF}]' --background 255`"


def bits(found: int, floating: bool = False) -> str:
    """The command for samples of so many bits."""
    if found < 8:
        return TILED
    factor, why = "0.00389105", "255 / 65535; 0.0622711 if only 12 of the 16 bits are used"
    if floating or found > 16:
        factor, why = "255", "255 / the largest value: here 1"
    elif found < 16:
        factor, why = f"{255 / ((1 << found) - 1):.6g}", f"255 / {(1 << found) - 1}"
    return (
        f"scale it to 8 bits, for example `vips linear in.tif 'out.tif[{TIFF}]' {factor} 0 --uchar` ({why})"
    )


def tiled(name: str) -> str:
    """The command for a picture that is not tiled."""
    return f"convert it, for example `vips copy {name} '{name.rpartition('.')[0] or name}-tiled.tif[{TIFF}]'`"
