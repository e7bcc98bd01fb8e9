"""What a run is to do: the dataset folder made or checked, and what of the run is done already."""

import hashlib
import importlib.util
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic

from pathprep.dataset import info
from pathprep.dataset.marker import Marker, SlideRecord, committed
from pathprep.dataset.schema import FOLDERS, VERSION, build_id
from pathprep.errors import DatasetError, SlideError, UsageError
from pathprep.params.shard import ShardParams
from pathprep.pseudonyms.slides import key_of
from pathprep.sharding.keys import check_key
from pathprep.sharding.names import with_names
from pathprep.sharding.remote import Remote
from pathprep.sharding.task import Origin, OriginT, Params
from pathprep.slides.find import Repeat, SlideSource
from pathprep.storage import atomic
from pathprep.storage.json_files import read_json
from pathprep.storage.local import LocalStorage
from pathprep.surveys import folder as survey


@dataclass(frozen=True)
class Plan(Generic[OriginT]):
    """What a run would do.

    Attributes:
        build_id: of the dataset.
        slides: all that were asked for, or shards of a tile set. todo: those to be made, in random order.
        skipped: markers of those that are done, by name. whole: not one part of several.
        repeats: files of slides that are among them already. touched: of the skipped, those whose files were
            written to since, with the same size and ends.
    """

    build_id: str
    slides: list[OriginT]
    todo: list[OriginT]
    skipped: dict[str, Marker]
    whole: bool = True
    repeats: list[Repeat] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)


def plan(
    sources: list[SlideSource],
    root: Path,
    params: ShardParams,
    *,
    rebuild: bool = False,
    part: tuple[int, int] | None = None,
    dry: bool = False,
    remote: Remote | None = None,
) -> Plan[SlideSource]:
    """Check everything that can be checked before the first slide, and see what is left to do.

    Args and errors: see ``shard``; ``dry`` writes nothing.
    """
    if not sources:
        raise UsageError("no slides given")
    if params.reader == "cucim" and importlib.util.find_spec("cucim") is None:
        raise UsageError(
            "cuCIM is not installed: install with the extra cuda13 or cuda12 (both also run without a GPU), "
            "or use `reader` openslide"
        )
    alias = sources[0].alias
    build_id = prepare(root, params, rebuild, dry=dry, key_id=None if alias is None else alias.key_id)
    if remote is not None and not dry:
        remote.publish("dataset.json")
    size = None if remote is None else remote.size
    found = with_names(sources, root, params.mpps)
    named = [replace(s, default_mpp=params.default_mpp) for s in found.slides]
    for source in named:
        if source.mask is not None and not source.mask.is_file():
            raise UsageError(f"{source.mask}: no such mask (for slide {source.path})")
    # absolute, since a worker may have another working directory
    whole = [replace(source, mask=source.mask and source.mask.absolute()) for source in named]
    divided = divide(whole, root, build_id, rebuild=rebuild, part=part, size=size)
    return replace(divided, repeats=found.repeats)


def divide(
    sources: Iterable[OriginT],
    root: Path,
    build_id: str,
    *,
    rebuild: bool = False,
    part: tuple[int, int] | None = None,
    size: Callable[[str], int] | None = None,
) -> Plan[OriginT]:
    """Tell what is done from what is to be made.

    Args:
        sources: named. root, rebuild, part: see ``run.shard``. build_id: of the dataset.
        size: bytes of a file of the dataset, by its name; default: of those in ``root``.
    """
    asked = [source for source in sources if part is None or in_part(source.name, *part)]
    plan = Plan(build_id, asked, [], {}, whole=part is None)
    for source in asked:
        marker = None
        if not rebuild and (root / "slides" / f"{source.name}.json").exists():  # else spare reading the slide
            with suppress(SlideError):  # its mask cannot be read: that costs this slide
                marker = committed(root, source.name, build_id, source.inputs(), size)
        if marker is not None:
            plan.skipped[source.name] = marker
            if _is_touched(source, marker):
                plan.touched.append(source.name)
        else:
            plan.todo.append(source)
    # so that several runs on one folder share the work, instead of making the same shards side by side
    random.SystemRandom().shuffle(plan.todo)
    return plan


def _is_touched(source: Origin, marker: Marker) -> bool:
    """Whether a slide file was written to, at its place, since it was sharded; its ends are the same."""
    made = marker.source
    if not isinstance(made, SlideRecord) or made.mtime is None or made.path != source.recorded:
        return False
    try:
        return source.path.stat().st_mtime != made.mtime
    except OSError:
        return False


def in_part(name: str, number: int, parts: int) -> bool:
    """Whether a slide falls to part ``number`` (1 to ``parts``), by a hash of its name in the dataset."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()) % parts == number - 1


def prepare(
    root: Path, params: Params, rebuild: bool, *, dry: bool = False, key_id: str | None = None
) -> str:
    """Make or check the dataset folder; returns the build id.

    Args:
        dry: write nothing, take any parameters. key_id: of the key of the run's pseudonyms, if it has any.

    Raises:
        UsageError: it holds a survey; slides made with other parameters and ``rebuild`` is off; or
            pseudonyms of another key, or slides under their own names, which do not go together with
            this run's.
    """
    values = params.as_dict()
    build = build_id(values)
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root}: not a folder; choose another `out`")
    if not dry:
        if (root / survey.NAME).exists():  # its slides/ has files of the same names
            raise UsageError(f"{root}: holds a survey; choose another `out`")
        try:
            for folder in FOLDERS:
                (root / folder).mkdir(parents=True, exist_ok=True)
            sweep(root)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"{root}: not a folder; choose another `out`") from None
        except OSError as error:
            raise UsageError(f"{root}: cannot be made ({error.strerror}); choose another `out`") from None
    path = root / info.NAME
    there = path.exists()  # asked first: another run may be writing it
    old = read_json(path)
    state = info.State.FOREIGN if old is None else info.state_of(old)
    stand = any((root / "slides").glob("*.json"))
    if there and state is info.State.FOREIGN and not stand:
        raise DatasetError(f"{path}: not written by pathprep, or damaged; choose another `out`, or delete it")
    if not dry and state in (info.State.FOREIGN, info.State.DAMAGED) and info.mended(root, values):
        old, state = read_json(path) or {}, info.State.WHOLE
    whole = old if state in (info.State.WHOLE, info.State.OTHER) else None
    check_key(LocalStorage(root), whole, key_id)
    same = whole is not None and whole["version"] == VERSION and whole["params"] == values
    if same and key_of(whole or {}) == key_id:
        return build
    if stand and not dry:
        _check_kind(root, whole, values)
        if not rebuild:
            _refuse(root, whole, values)
    if not dry:
        atomic.write_json(path, info.made(values, key_id))
    return build


def _check_kind(root: Path, old: dict[str, Any] | None, values: dict[str, Any]) -> None:
    """Slides and imported tiles are not made anew from each other.

    Raises:
        UsageError: the folder holds those of the other kind.
    """
    if old is not None and old["params"].get("kind") != values.get("kind"):
        there = "imported tiles" if old["params"].get("kind") == "tiles" else "slides"
        raise UsageError(f"{root}: holds {there}; use another `out`")


def _refuse(root: Path, old: dict[str, Any] | None, values: dict[str, Any]) -> None:
    """Say why a run with these parameters must not write among the slides that stand.

    Raises:
        UsageError: always, but where no slide of pathprep stands. ``old`` is None where dataset.json is
            damaged or gone.
    """
    if old is None:
        if info.first_marker(LocalStorage(root)) is None:
            return  # of a killed run, or foreign: nothing that could be lost
        raise UsageError(
            f"{root / info.NAME}: damaged or gone, and the slides there were made with other parameters than "
            "these; run the very command that made them, which writes it anew and keeps them; or use another "
            "`out`, or `rebuild` to make them again"
        )
    if old["version"] != VERSION:
        raise UsageError(
            f"{root}: a dataset of format version {old['version']}, which is still read, but this "
            f"pathprep writes version {VERSION}; use another `out`, or `rebuild` to make its slides again"
        )
    changed = ", ".join(differences(old["params"], values))
    raise UsageError(
        f"{root}: holds slides made with other parameters ({changed}); "
        "use another `out`, or `rebuild` to make them again"
    )


def changes(root: Path, params: Params) -> str:
    """How parameters differ from those of the slides that a dataset folder holds; "" if it holds none."""
    old = read_json(root / info.NAME)
    if old is None or not any((root / "slides").glob("*.json")):
        return ""
    if info.state_of(old) is not info.State.WHOLE:
        return f"{info.NAME} is damaged, or of another version"
    versions = differences({"version": old["version"]}, {"version": VERSION}, "format ")
    return ", ".join(versions + differences(old["params"], params.as_dict()))


def sweep(root: Path) -> None:
    for folder in (root, *(root / name for name in FOLDERS)):
        atomic.sweep(folder)


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """How parameters differ, a line each."""
    changed = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            changed += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            changed.append(f"{prefix}{key} {a} there, {b} now")
    return changed
