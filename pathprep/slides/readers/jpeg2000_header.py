"""What a JPEG 2000 codestream says of its samples before its first tile."""

_START, _SIZ, _COD, _SOT = b"\xff\x4f\xff\x51", 0xFF51, 0xFF52, 0xFF90


def bits(data: bytes) -> list[int] | None:
    """Bits of each component; None if there is no codestream.

    Args:
        data: from the codestream's start, or a JP2 file's.
    """
    at = data.find(_START)
    if at < 0 or len(data) < at + 42:
        return None
    count = int.from_bytes(data[at + 40 : at + 42], "big")
    sizes = data[at + 42 : at + 42 + 3 * count : 3]
    return [(size & 0x7F) + 1 for size in sizes] or None


def mixed(data: bytes) -> bool | None:
    """Whether decoders turn the components back to RGB themselves (multiple component transform)."""
    at = data.find(_START)
    if at < 0:
        return None
    at += 2
    while at + 4 <= len(data):
        marker, length = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (0, 2))
        if marker == _COD:
            return data[at + 8 : at + 9] == b"\x01"
        if marker == _SOT or length < 2:
            return None
        at += 2 + length
    return None
