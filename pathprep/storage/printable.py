"""Text of files, names and other people's programs, as a terminal or a page may be given it.

A name may hold whatever a file system takes: sequences that recolour a terminal, set its title or write to
its clipboard, letters that turn the reading direction around, lines of their own, bytes that are no text.
"""

import re

from pathprep.storage.secrets import without_secrets

# Control characters, lines and paragraphs of Unicode, direction marks, what has no width, halves of pairs
_ODD = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_NAMES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str) -> str:
    r"""Text on one line with nothing in it that a terminal would obey: ``\x1b``, ``\n``, ``\u202e`` as here.

    Passwords in URLs are hidden.
    """
    return without_secrets(_ODD.sub(_escaped, text))


def printable_lines(text: str) -> str:
    """The same of a text that may have several lines."""
    return "\n".join(map(printable, text.split("\n"))) if _ODD.search(text) else without_secrets(text)


def _escaped(found: re.Match[str]) -> str:
    letter = found[0]
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8
        code -= 0xDC00
    if letter in _NAMES:
        return _NAMES[letter]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
