"""Passwords in URLs: used to get there, never shown or kept.

``Url`` uses this wherever it becomes text, and so does everything that is printed.
"""

import re

HIDDEN = "***"
# Also one that was taken for a path, which folds its slashes
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/[^\s'\"<>`]+")
# user:password@, the password perhaps with slashes that should have been escaped; not host:9000/a@b
_PASSWORD = re.compile(r"(:/+[^/@:]*):(?!\d+/)[^@]*(?:@[^/@]*(?=@))*(?=@)")
# A token in the place of a user, as for https; of abfs it is the name of a container
_TOKEN = re.compile(r"(https?:/+)[^/@:]+(?=@)")
_QUERY = re.compile(r"([?&][^=&#\s]+=)[^&#\s]+")


def without_secrets(text: str) -> str:
    """A text with the passwords, and what stands behind ``?token=`` and the like, of its URLs hidden."""
    if ":/" not in text:
        return text
    return _URL.sub(lambda found: "::".join(map(_hidden, found[0].split("::"))), text)


def _hidden(url: str) -> str:
    url = _PASSWORD.sub(rf"\1:{HIDDEN}", url)
    url = _TOKEN.sub(rf"\1{HIDDEN}", url)
    return _QUERY.sub(rf"\1{HIDDEN}", url)
