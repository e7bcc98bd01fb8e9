"""What stands in the folder of a mix before it is made: an earlier run's plan and shards."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pathprep.dataset.schema import build_id, sha256
from pathprep.errors import NoLocksError, UsageError
from pathprep.mixed import format as mixed
from pathprep.storage import atomic, locks
from pathprep.storage.json_files import read_json
from pathprep.storage.seals import SEAL, Seal, seal_of, write_sealed

log = logging.getLogger(__name__)


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold the folder of a mix while it is made: who ends first removes what another would still write to.

    Raises:
        BusyError: another process makes a mix there.
    """
    with ExitStack() as held:
        if root.is_dir() or not root.exists():  # else ``prepare`` says what is wrong with it
            root.mkdir(parents=True, exist_ok=True)
            with suppress(NoLocksError):  # two at once are rarer than file systems without locks
                held.enter_context(locks.exclusive(root / locks.NAME, stays=False))
        yield


def prepare(root: Path, plan: dict[str, Any], count: int) -> None:
    """Make or check the folder: remove what killed runs left, note the plan.

    Raises:
        UsageError: the folder holds a dataset, a survey, or a mix of other datasets or with other options.
    """
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root}: not a folder; choose another `out`")
    for name in ("dataset", "survey"):
        if (root / f"{name}.json").exists():
            raise UsageError(f"{root}: holds a {name}; choose another `out`")
    noted = root / mixed.PLAN
    info, old = read_json(root / mixed.INFO), _noted(root, plan)
    if (root / mixed.INFO).exists() and not _is_ours(root, info):
        raise UsageError(
            f"{root / mixed.INFO}: not written by pathprep, or damaged; choose another `out`, or delete it"
        )
    if info is not None and mixed.is_whole(info):
        old = info["plan"]
    elif (root / mixed.INFO).exists():
        log.warning(
            "%s: damaged; it is written anew, and shards that are as they were are kept", root / mixed.INFO
        )
    if old is not None and old != plan:
        changed = [
            f"{name} {old.get(name)} there, {plan[name]} now"
            if name != "sources"
            else "other tiles or datasets"
            for name in plan
            if old.get(name) != plan[name]
        ]
        raise UsageError(f"{root}: holds another mix ({', '.join(changed)}); use another `out`, or delete it")
    for folder in mixed.FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
        atomic.sweep(root / folder)
    atomic.sweep(root)
    if old is None:
        write_sealed(noted, plan)


def _noted(root: Path, plan: dict[str, Any]) -> dict[str, Any] | None:
    """The plan of an unfinished mix; None if there is none, or if it is damaged and the mix is this one.

    Raises:
        UsageError: it is damaged, and shards of another mix stand.
    """
    noted = read_json(root / mixed.PLAN)
    # older ones have no seal, but the same keys
    if noted is not None and seal_of(noted) is not Seal.BROKEN and noted.keys() - {SEAL} == plan.keys():
        return {key: value for key, value in noted.items() if key != SEAL}
    if noted is not None or (root / mixed.PLAN).exists():
        log.warning("%s: damaged; it is written anew", root / mixed.PLAN)
        if any(marker.get("mix_id") != build_id(plan) for marker in _unfinished(root)):
            raise UsageError(
                f"{root}: holds another mix that is not finished, whose {mixed.PLAN} is damaged; use another "
                "`out`, or delete it"
            )
    return None


def _unfinished(root: Path) -> list[dict[str, Any]]:
    """What markers say of the shards that a run has finished."""
    paths = sorted((root / mixed.PLAN).parent.glob("mixed-*.json"))
    markers = [read_json(path) for path in paths]
    return [marker for marker in markers if marker is not None and seal_of(marker) is not Seal.BROKEN]


def _is_ours(root: Path, info: dict[str, Any] | None) -> bool:
    """Whether a file that is named mixed.json was ours: by its format, or else by the shards beside it."""
    known = info is not None and info.get("format") == mixed.FORMAT
    return known or any((root / name).is_file() for name in mixed.files(mixed.name(0)))


def finished(
    root: Path, plan: dict[str, Any], count: int, total: int, pool: ThreadPoolExecutor
) -> list[tuple[int, dict[str, Any]]]:
    """What is recorded of the shards whose files are there with their size and hash, by number.

    Of the records only the hashes are believed, which the files themselves confirm: so those of a damaged
    mixed.json serve too.
    """
    info, mix_id, known = read_json(root / mixed.INFO) or {}, build_id(plan), dict[str, Any]()
    there = info.get("shards") if info.get("plan") == plan else None
    done = [each for each in _unfinished(root) if each.get("mix_id") == mix_id]
    for record in [*(there if isinstance(there, list) else ()), *done]:
        with suppress(KeyError, TypeError, AttributeError):
            if mixed.is_record(record):
                known[record["shard"]] = record["files"]

    def check(number: int) -> tuple[int, dict[str, Any]] | None:
        shard, tiles = mixed.name(number), (number + 1) * total // count - number * total // count
        if shard not in known:
            return None
        for name, entry in known[shard].items():
            path = root / name
            if not path.is_file() or path.stat().st_size != entry["size"]:
                return None
            if sha256(path) != entry["sha256"]:
                return None
        return number, {"shard": shard, "number": number, "tiles": tiles, "files": known[shard]}

    return [found for found in pool.map(check, range(count)) if found is not None]
