"""A seal of a run's log: RUN/log.seal.json, of each checkpoint, holds the SHA-256 of the rows until then.

Rows after it are compared at the next one. Runs of before have none. It is removed before the log is written
anew, so that a kill leaves no seal of other rows.
"""

import hashlib
import json
from pathlib import Path

from pathprep.storage import regular
from pathprep.storage.seals import Seal, seal_of, write_sealed

LOG_FILE, NAME = "log.jsonl", "log.seal.json"


def write(run: Path) -> None:
    """Seal the rows that are in the log now."""
    with (run / LOG_FILE).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    write_sealed(run / NAME, {"bytes": size, "sha256": digest, "version": 1})


def remove(run: Path) -> None:
    """Before the log is written anew."""
    (run / NAME).unlink(missing_ok=True)


def differs(run: Path) -> str | None:
    """What is wrong with the log, or its seal; None if nothing is, or nothing is known.

    Raises:
        OSError: one of them cannot be read.
    """
    try:
        told = json.loads(regular.read(run / NAME))
        if seal_of(told) is not Seal.WHOLE:
            raise ValueError
        size, digest = told["bytes"], told["sha256"]
        if type(size) is not int or size < 0:  # whoever sealed it
            raise ValueError
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError):
        return f"{run / NAME}: damaged; the next checkpoint writes it again"
    try:
        data = regular.read(run / LOG_FILE)
    except FileNotFoundError:
        return f"{run / LOG_FILE}: gone, and its figures with it"
    if hashlib.sha256(memoryview(data)[:size]).hexdigest() != digest:
        return f"{run / LOG_FILE}: its rows have changed since they were written; figures may be wrong"
    return None
