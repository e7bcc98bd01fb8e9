"""What is said of a slide or tile set where its own names and paths must not be: pseudonymised datasets.

pathprep.pseudonyms makes them; they travel with the slide to its worker, the key does not.
"""

import getpass
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What is left of a message after every known name is replaced, and still could tell of a file or a person
_PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?(?:[\\/][^\s\\/:;,'\"()]+){2,}")
_UID = re.compile(r"\b[0-2](?:\.\d+){5,}\b")


@dataclass(frozen=True)
class Alias:
    """What stands in a dataset for a source of tiles.

    Attributes:
        key_id: of the key. own_name, path, mask: instead of the slide's own; ``mask`` is None without one.
        words: what messages may hold of the source, longest first, and what is said instead.
    """

    key_id: str
    own_name: str
    path: str
    mask: str | None = None
    words: tuple[tuple[str, str], ...] = ()

    def said(self, text: str) -> str:
        """A message without names of files, folders, machine and user, and without DICOM's UIDs."""
        for word, instead in self.words:
            text = _word(word).sub(instead, text)
        text = _UID.sub("(UID)", _PATH.sub("(path)", text))
        for word, instead in _machine():
            text = _word(word).sub(instead, text)
        return text

    def all_said(self, value: Any) -> Any:
        """The same of every text in a value as JSON has it."""
        if isinstance(value, str):
            return self.said(value)
        if isinstance(value, Mapping):
            return {key: self.all_said(each) for key, each in value.items()}
        return [self.all_said(each) for each in value] if isinstance(value, list | tuple) else value


class Aliased:
    """A source of tiles that may stand in a dataset under an alias.

    Attributes:
        path: of its files. alias: what the dataset says of it instead of its names and paths; None: these.
    """

    path: Path
    alias: Alias | None

    @property
    def key_id(self) -> str | None:
        """Of the key of its pseudonym; None if it has its own name."""
        return None if self.alias is None else self.alias.key_id

    @property
    def recorded(self) -> str:
        """The path as a dataset records it."""
        return str(self.path) if self.alias is None else self.alias.path


def _word(word: str) -> re.Pattern[str]:
    """A name as a whole word, in any case: a slide that is called ``1`` must not take the 1 out of 10."""
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", re.IGNORECASE)


def _machine() -> list[tuple[str, str]]:
    host = socket.gethostname()
    return [(word, "(machine)") for word in {host, host.partition(".")[0]} if word] + [
        (word, "(user)") for word in user_names() if word != "root"
    ]


def user_names() -> list[str]:
    """What the user of this process is called; empty where nobody says."""
    try:
        return [getpass.getuser()]
    except (OSError, KeyError):
        return []
