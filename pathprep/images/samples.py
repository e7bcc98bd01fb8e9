"""Bits per sample of an image file, judged by its header: Pillow keeps the high byte of 16 without a word."""

from PIL import Image, TiffImagePlugin

BITS, EXTRA, FORMAT = 258, 338, 339  # TIFF tags
PNG_BITS = 24  # where IHDR has them
SIZ = b"\xff\x4f\xff\x51"  # JPEG 2000: start of codestream, then the sizes
UNSIGNED, UNSPECIFIED = 1, 0


def check(image: Image.Image, data: bytes) -> None:
    """Refuse samples of more than 8 bits, signed ones and fractions, and channels that nobody explains.

    Args:
        image: opened, not read.
        data: the file.

    Raises:
        ValueError: says what the samples are, and what to do.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile) and UNSPECIFIED in image.tag_v2.get(EXTRA, ()):
        raise ValueError("has a channel beside its colours that is not said to be alpha; save it without")
    bits, kind = _samples(image, data)
    if bits > 8 or kind:
        raise ValueError(
            f"pixels are of {bits} bits a sample{kind}; expected 8-bit RGB: scale them from their true range"
        )


def _samples(image: Image.Image, data: bytes) -> tuple[int, str]:
    if image.format == "PNG":
        return data[PNG_BITS], ""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        kinds = set(image.tag_v2.get(FORMAT, (UNSIGNED,))) - {UNSIGNED, 4}  # 4: not said
        kind = ", fractions" if 3 in kinds else ", signed" if kinds else ""
        return max(image.tag_v2.get(BITS, (1,))), kind
    if image.format == "JPEG2000":
        return _jpeg2000(data)
    if image.format == "PPM":
        return (16 if image.mode.startswith("I") else 8), ""
    return 8, ""


def _jpeg2000(data: bytes) -> tuple[int, str]:
    start = data.find(SIZ)
    if start < 0:
        return 8, ""  # Pillow will say what is wrong
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    precisions = data[start + 42 : start + 42 + 3 * count : 3]
    signed = any(each & 0x80 for each in precisions)
    return max(((each & 0x7F) + 1 for each in precisions), default=8), ", signed" if signed else ""
