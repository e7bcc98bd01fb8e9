"""Lists whatever in a folder could tell of a person or a machine: signs (pseudonyms.signs), not proofs."""

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pathprep.auditing import pictures, texts
from pathprep.auditing.texts import BYTES, Text
from pathprep.errors import UsageError, why
from pathprep.params.running import AnyPath
from pathprep.pseudonyms import signs
from pathprep.pseudonyms.key import PSEUDONYM
from pathprep.storage import atomic
from pathprep.storage.base import is_url
from pathprep.storage.json_files import read_json
from pathprep.storage.regular import special

SAMPLE = 1000  # pictures of a tar whose headers are looked at
SHORTEN = 60
# Letters of a path or an e-mail among bytes that are no text; pixels look like shorter ones by chance
BY_CHANCE = 12
PICTURES = frozenset({".jpg", ".jpeg", ".png"})
NAMES = "own names of slides or images"
UNREADABLE = "cannot be looked into"
LINK = "a link, which is not followed"
# By kind of folder: what says that it is one
_KINDS = (
    ("dataset", "dataset.json"), ("mixed shards", "mixed.json"), ("mixed shards", "unfinished/plan.json"),
    ("run", "recipe.yaml"), ("run", "run.json"), ("model", "config.json"),
)  # fmt: skip
_TFEVENTS = re.compile(r"events\.out\.tfevents\.\d+\.(?P<host>.+)\.\d+\.\d+")
_COUNTED = re.compile(r"mixed-\d+|\d{8}|[a-z_-]+|features|model|config|report")  # names of ours


@dataclass
class Found:
    """A sign, in one or several files of a kind.

    Attributes:
        file: the first, relative to the folder. where: within it. what: a sign, as in "a date".
        example: shortened. fix: how to avoid or remove it. files: how many files have it.
    """

    file: str
    where: str
    what: str
    example: str
    fix: str
    files: int = 1

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return vars(self)


@dataclass
class Audit:
    """What was looked at and found.

    Attributes:
        path, kind: of the folder. files: how many. looked: pictures whose headers were looked at,
            of ``pictures`` that there are.
        pseudonymised: whether its slides have pseudonyms. found: signs.
    """

    path: Path
    kind: str
    files: int = 0
    looked: int = 0
    pictures: int = 0
    pseudonymised: bool = False
    found: list[Found] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        values = vars(self) | {"path": str(self.path), "found": [each.as_dict() for each in self.found]}
        return {("pictures_looked_at" if key == "looked" else key): value for key, value in values.items()}


def audit(path: AnyPath, *, sample: int = SAMPLE) -> Audit:
    """Look for signs of persons and machines in everything below a folder, or in a file.

    Args:
        path: a dataset, mixed shards, run, model, folder of features, or anything else.
        sample: pictures of each tar whose headers are looked at, spread over it; 0 for all.

    Raises:
        UsageError: it is not there, or a URL.
    """
    if is_url(path):
        raise UsageError(
            f"{path}: only local folders are looked through; copy it, or look before it is uploaded"
        )
    root = Path(path)
    if not root.exists():
        raise UsageError(f"{root}: no such file or folder")
    if what := special(root.stat().st_mode):
        raise UsageError(f"{root}: is {what}, not a file or folder")
    made = Audit(root, _kind(root))
    info = read_json(root / "dataset.json") or {} if root.is_dir() else {}
    made.pseudonymised = "pseudonymised" in info
    seen: dict[tuple[str, str, str], Found] = {}
    for file in _files(root):
        made.files += 1
        name = str(file.relative_to(root)) if file != root else file.name
        once = set()
        for text, what, example in _signs(file, name, made, sample):
            key = (what, str(Path(name).parent), Path(name).suffix)
            if key in seen:
                seen[key].files += key not in once
            else:
                fix = _fix(made.kind, what, name)
                seen[key] = Found(name, text, what, _short(example), fix)
            once.add(key)
    made.found = list(seen.values())
    return made


def _kind(root: Path) -> str:
    for kind, name in _KINDS:
        if (root / name).is_file():
            return kind
    if root.is_file():
        return "file"
    features = any(True for ending in ("*.h5", "*.parquet") for _ in root.glob(ending))
    return "features" if features else "folder"


def _files(root: Path) -> Iterator[Path]:
    """The files; links, which are not followed, and folders that may not be listed, so that they are told."""
    if not root.is_dir():
        yield root
        return
    found, closed = list[Path](), list[OSError]()
    for here, folders, files in os.walk(root, onerror=closed.append):
        links = [name for name in folders if Path(here, name).is_symlink()]
        found += [Path(here, name) for name in (*links, *files)]
    found += [Path(error.filename) for error in closed]
    yield from (path for path in sorted(found) if path.is_file() or path.is_dir() or path.is_symlink())


def _signs(file: Path, name: str, made: Audit, sample: int) -> Iterator[tuple[str, str, str]]:
    """Where within the file, what and an example."""
    yield from _of_name(file, made)
    if file.is_symlink() and file != made.path:
        yield "", LINK, str(file.readlink())
        return
    try:
        if file.suffix == ".tar":
            yield from _of_tar(file, made, sample)
        elif file.suffix.lower() in PICTURES:
            made.pictures += 1
            made.looked += 1
            with file.open("rb") as picture:
                for what, words in pictures.metadata(picture.read(pictures.HEAD)):
                    yield "its header", f"{what} in a picture", words
        else:
            for text in texts.of_file(file):
                yield from _of_text(text, file)
    except Exception as error:  # whatever a damaged file makes its reader say: the next ones are looked at
        yield "", UNREADABLE, f"{type(error).__name__}: {why(error)}"


def _of_text(text: Text, file: Path) -> Iterator[tuple[str, str, str]]:
    for sign in signs.in_text(text.text):
        if text.where == BYTES and sign.what in (signs.PATH, signs.MAIL) and len(sign.example) < BY_CHANCE:
            continue
        yield text.where, sign.what, sign.example
    if text.kind == "name":
        yield from ((text.where, sign.what, sign.example) for sign in signs.of_name(text.text))
        if file.suffix == ".json" and text.where.endswith("own_name") and not PSEUDONYM.search(text.text):
            yield text.where, NAMES, text.text
    elif text.kind == "label":
        for sign in signs.of_name(text.text, persons=False):
            yield text.where, f"{sign.what} as a label", sign.example


def _of_name(file: Path, made: Audit) -> Iterator[tuple[str, str, str]]:
    """What a file's name tells."""
    if file.name.startswith(atomic.PREFIX):
        yield "its name", "a file of a run that was killed, with the name of the machine", file.name
        return
    board = _TFEVENTS.match(file.name)
    if board is not None:
        if board["host"] != "machine":
            yield "its name", signs.HOST, board["host"]
        return
    own = file.name.partition(".")[0]
    if _COUNTED.fullmatch(own):
        return
    for sign in signs.of_name(own):
        yield "its name", sign.what, file.name


def _of_tar(file: Path, made: Audit, sample: int) -> Iterator[tuple[str, str, str]]:
    with tarfile.open(file) as tar, file.open("rb") as data:
        members = [member for member in tar if member.isfile()]
        slides = dict.fromkeys(member.name.rpartition("__")[0] for member in members)
        for slide in slides:
            for sign in signs.of_name(slide):
                yield "keys of tiles", sign.what, sign.example
        found = [each for each in members if Path(each.name).suffix.lower() in PICTURES]
        step = 1 if not sample else max(1, -(-len(found) // sample))
        made.pictures += len(found)
        for member in found[::step]:
            made.looked += 1
            yield from _of_member(data, member)


def _of_member(data: BinaryIO, member: tarfile.TarInfo) -> Iterator[tuple[str, str, str]]:
    data.seek(member.offset_data)
    for what, words in pictures.metadata(data.read(min(member.size, pictures.HEAD))):
        yield member.name, f"{what} in a picture", words


def _fix(kind: str, what: str, name: str) -> str:
    """How to avoid or remove a sign."""
    if what == UNREADABLE:
        return "not yours to read, damaged, or not what its name says: see `pathprep verify`, or remove it"
    if what == LINK:
        return "audit what it leads to, too; what is given away may hold that instead"
    if what.endswith("in a picture"):
        return "import the tiles again: `pathprep import-tiles` leaves metadata out"
    if what.startswith("a file of a run that was killed"):
        return "run the same command again, which removes it"
    if what.endswith("as a label"):
        return "give labels that are classes"
    if kind == "dataset" and Path(name).suffix == ".html":
        return "write the page again, from a dataset with pseudonyms"
    if kind == "dataset" and (what == signs.HOST or "slurm" in name):
        return "of the machine that made it: remove the file if it is a log or a lock"
    if kind == "dataset":
        return "make the dataset with `--pseudonymise KEYFILE` into another folder"
    if kind == "mixed shards":
        return "mix a dataset that has pseudonyms"
    if kind == "features":
        return "embed a dataset that has pseudonyms"
    if kind == "run":
        return "give away what `pathtrain export` makes of it, or train on a dataset with pseudonyms"
    if kind == "model":
        return "`pathtrain export` again, which leaves out paths"
    return "remove it, or do not give the file away"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHORTEN else f"{line[: SHORTEN - 3]}..."
