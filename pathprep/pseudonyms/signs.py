"""Signs that a text could tell of a person or a machine: for `pathprep audit`, and for tables of labels.

They are signs, not proofs: a study's own numbers look like a hospital's, and a name that looks like nothing
may still be one.
"""

import re
import socket
from collections.abc import Iterator
from typing import NamedTuple

from pathprep.pseudonyms.key import PSEUDONYM
from pathprep.slides.alias import user_names


class Sign(NamedTuple):
    """What a text holds, as in "a date", and where."""

    what: str
    example: str


DATE, NUMBER, UID, PERSON, MAIL = (
    "a date",
    "a number as hospitals give",
    "a UID",
    "a person's name",
    "an e-mail",
)
PATH, HOST, USER = "a path of a machine", "the name of a machine", "the name of a user"

_DAY, _MONTH, _YEAR = r"(?:0[1-9]|[12]\d|3[01])", r"(?:0[1-9]|1[0-2])", r"(?:19|20)\d\d"
_DATE = re.compile(
    rf"(?<!\d)(?:{_YEAR}([-_. /]?){_MONTH}\1{_DAY}|{_DAY}([-_. /]){_MONTH}\2{_YEAR}"
    rf"|{_DAY}{_MONTH}{_YEAR})(?!\d)"
)
# 12345678; S19-1234, H2021/004711, E 19.1234
_NUMBER = re.compile(r"\d{5,}|(?<![A-Za-z0-9])[A-Za-z]{1,4}[-_ .]?(?:19|20)?\d{2}[-_/. ]\d{2,}")
_UID = re.compile(r"(?<![\d.])[0-2](?:\.\d+){5,}")
_PERSON = re.compile(r"(?<![^\W_])[A-ZÀ-Þ][a-zß-ÿ]{2,}(?:, ?|[_ ^.-])[A-ZÀ-Þ][a-zß-ÿ]{2,}(?![a-zß-ÿ])")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
_PATH = re.compile(
    r"(?<![\w.:/<*\\%#&~])(?:/(?=[A-Za-z_~])[^\s/:;,'\"<>|()\[\]{}*?&$=]+){2,}/?"
    r"|(?<![\w])[A-Za-z]:\\(?:[^\s\\:;,'\"<>|]+\\?)+|file:///[^\s'\"<>]+"
)
# Hashes: what is keyed, and what is appended to names that collide
_OWN = re.compile(PSEUDONYM.pattern + r"(?:-[0-9a-f]{8})?")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?=\d*[a-f])[0-9a-f]{8}(?:[0-9a-f]{4,})*(?![0-9A-Za-z])")
_ON = re.compile(r"process \d+ on (\S+)")
# Users that programs are called by everywhere: their names are words
_NOBODY = frozenset(
    {"root", "user", "users", "admin", "nobody", "daemon", "ubuntu", "runner", "data", "test", "app"}
)
# Letters of a machine's or user's name that is looked for. Three given ones stand by themselves once in every
# 3 MB of random bytes (measured), thousands of times in a dataset, and are words of ours, too (mpp, idx)
_SHORTEST = 4


def of_name(name: str, *, persons: bool = True) -> list[Sign]:
    """What a name of a slide, group, file or a cell of a table may be.

    Args:
        persons: look for names of persons too; names of classes look like them.
    """
    bare = _HEX.sub(" ", _OWN.sub(" ", name))
    rules = [(MAIL, _MAIL), (UID, _UID), (DATE, _DATE), (NUMBER, _NUMBER)]
    if persons:
        rules.append((PERSON, _PERSON))
    for what, rule in rules:
        if rule.search(bare):
            return [Sign(what, name)]
    return []


def in_text(text: str) -> Iterator[Sign]:
    """What any text holds."""
    for what, rule in ((PATH, _PATH), (UID, _UID), (MAIL, _MAIL)):
        for found in rule.finditer(text):
            yield Sign(what, found[0])
    for found in _ON.finditer(text):
        yield Sign(HOST, found[1])
    for what, rule in _here():
        for found in rule.finditer(text):
            yield Sign(what, found[0])


def _here() -> Iterator[tuple[str, re.Pattern[str]]]:
    """The machine and the user that this runs on and as: those of other machines nobody can know."""
    host = socket.gethostname()
    for what, names in ((HOST, {host, host.partition(".")[0]}), (USER, set(user_names()))):
        for name in names:
            if len(name) >= _SHORTEST and name.lower() not in _NOBODY | {"localhost"}:
                yield what, re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE)
