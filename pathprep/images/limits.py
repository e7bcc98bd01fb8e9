"""How much an image may ask for, and the words for whatever a decoder raises."""

MOST_PIXELS = 1 << 26  # 8192 x 8192; a header of 65,500 x 65,500 asks for 12 GiB
MOST_BYTES = 1 << 28  # of a file: MOST_PIXELS of four samples, not compressed


def check(width: int, height: int) -> None:
    """Refuse an image by the size that its header says.

    Raises:
        ValueError: it has more than MOST_PIXELS.
    """
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width:,} x {height:,} px, at most {MOST_PIXELS:,} pixels are read")


def reason(error: BaseException) -> str:
    """A line on what a decoder raised, which may be anything: their lists of errors are never whole."""
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    words = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
    if isinstance(error, OSError | ValueError | SyntaxError) and words:
        return words
    return f"damaged ({type(error).__name__}{': ' if words else ''}{words})"
