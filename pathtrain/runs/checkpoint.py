"""Checkpoints that are complete or absent, found by content rather than by name alone.

    RUN/checkpoints/NNNNNNNN.pt    torch.save, written atomically; NNNNNNNN is the number of finished steps
    RUN/checkpoints/NNNNNNNN.json  {file, step, sha256, config} and a seal, written after it; else the .pt
                                   does not count
    RUN/checkpoints/latest.json    a copy of the newest of these, for people and other tools

A checkpoint counts if its bytes have the recorded SHA-256. The newest that does is used; a damaged
newer one is named in a warning, never loaded. Loading allows tensors and plain containers only, no code.
"""

import hashlib
import io
import json
import logging
import os
import pickle
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from pathprep.storage import atomic, regular
from pathprep.storage.json_files import read_json
from pathprep.storage.seals import is_whole, sealed
from pathprep.words import command
from pathtrain.errors import CheckpointError

VERSION, SEALED_SINCE = 2, 2  # of the .json files
LATEST = "latest.json"
_NAME = re.compile(r"\d{8,}\.pt")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One checkpoint.

    Attributes:
        file: name in RUN/checkpoints.
        step: finished optimiser steps.
        sha256: of the file's bytes.
        config: hash of everything that a resume must not change (recipe and dataset).
    """

    file: str
    step: int
    sha256: str
    config: str


def folder(run: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return run / "checkpoints"


def entries(run: Path) -> list[Entry]:
    """Every checkpoint that was completed, oldest first; their bytes are not looked at."""
    found = []
    for path in folder(run).glob("[0-9]*.json"):
        try:
            values = json.loads(regular.read(path))
            if not is_whole(values, SEALED_SINCE):
                raise ValueError
            entry = Entry(**{key: value for key, value in values.items() if key not in ("seal", "version")})
            if entry.file != f"{entry.step:08d}.pt":  # nor does it lead elsewhere
                raise ValueError
            found.append(entry)
        except FileNotFoundError:  # removed meanwhile
            if path.is_symlink():
                log.warning("%s is a link to nothing; its checkpoint is not used", path)
        except (ValueError, TypeError, AttributeError, RecursionError):
            log.warning("%s is damaged; its checkpoint is not used", path)
    return sorted(found, key=lambda entry: entry.step)


def save(run: Path, value: dict[str, Any], step: int, config: str, keep: int) -> Entry:
    """Write a checkpoint, then remove all but the newest ``keep``.

    Args:
        value: tensors, numbers, strings and containers of them.
    """
    buffer = io.BytesIO()
    torch.save(value, buffer)
    data = buffer.getvalue()
    path = folder(run) / f"{step:08d}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = Entry(path.name, step, hashlib.sha256(data).hexdigest(), config)
    atomic.write_bytes(path, data)
    _account(path.with_suffix(".json"), entry)
    settle(run, entry, keep)
    return entry


def settle(run: Path, newest: Entry, keep: int) -> None:
    """Tell of the newest checkpoint, and remove all but ``keep``; also where a kill came between."""
    latest_file = folder(run) / LATEST
    if read_json(latest_file) != _values(newest):
        _account(latest_file, newest)
    # later ones are of a way that was given up, from a newer checkpoint that is damaged
    kept = [other for other in entries(run) if other.step <= newest.step][-keep:]
    for old in (other for other in entries(run) if other not in kept):
        path = folder(run) / old.file
        path.with_suffix(".json").unlink()  # first: a .pt alone does not count
        path.unlink(missing_ok=True)
    for path in folder(run).glob("[0-9]*.pt"):  # of one that went by half
        if _NAME.fullmatch(path.name) and int(path.stem) < kept[0].step and not _has_account(path):
            path.unlink(missing_ok=True)


def _has_account(path: Path) -> bool:
    return path.with_suffix(".json").exists()


def _values(entry: Entry) -> dict[str, Any]:
    return sealed({**asdict(entry), "version": VERSION})


def _account(path: Path, entry: Entry) -> None:
    atomic.write_json(path, _values(entry))


def latest(run: Path) -> Entry | None:
    """The newest intact checkpoint; None if the run has not written one.

    Raises:
        CheckpointError: there are checkpoints, and all of them are damaged.
    """
    found = entries(run)
    newest = found[-1].file if found else ""
    for path in sorted(folder(run).glob("[0-9]*.pt")):
        if path.name > newest and not os.path.lexists(path.with_suffix(".json")):
            log.warning("%s has no .json beside it: it was not finished, or that is lost; not used", path)
    for entry in reversed(found):
        path = folder(run) / entry.file
        try:
            with regular.open_regular(path) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256:  # type: ignore[arg-type]
                    return entry
            log.warning("%s is damaged (its SHA-256 differs); an older checkpoint is used", path)
        except FileNotFoundError:
            log.warning("%s is gone; an older checkpoint is used", path)
    if found:
        raise CheckpointError(f"{folder(run)}: all {len(found)} checkpoints are damaged; `fresh` starts over")
    return None


def read(run: Path, entry: Entry) -> dict[str, Any]:
    """A checkpoint's content, on the CPU.

    Raises:
        CheckpointError: it is gone or damaged.
    """
    path = folder(run) / entry.file
    try:
        data = regular.read(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is gone") from None
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise CheckpointError(f"{path} is damaged (its SHA-256 differs)")
    try:
        return cast(dict[str, Any], torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: holds more than tensors and plain values, and is not loaded"
        ) from None
    except Exception as error:  # of a file that another program made, anything may come
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: no checkpoint of pathtrain ({line})") from None


def load(run: Path) -> dict[str, Any]:
    """The newest intact checkpoint's content, on the CPU.

    Returns:
        Keys ``step``, ``student`` and ``teacher`` (each ``backbone`` and ``head`` state dicts), ``loss``,
        ``optimizer``, ``config``.

    Raises:
        CheckpointError: there is none.
    """
    found = latest(run)
    if found is None:
        raise CheckpointError(
            f"{run}: no checkpoint there; train it with {command('pathtrain pretrain --out', run)}"
        )
    return read(run, found)
