"""Checks runs and exported models: every file, every hash; features are in pathtrain.features.verify."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pathprep.errors import PathprepError
from pathprep.storage import locks, regular
from pathprep.storage.atomic import PREFIX
from pathprep.storage.seals import is_whole
from pathprep.storage.whole_folder import left_over
from pathtrain.errors import CheckpointError
from pathtrain.models.folder import CARD_FILE, FILES, read_config, recorded
from pathtrain.runs import checkpoint, described, log_seal, milestones
from pathtrain.runs.log_seal import LOG_FILE
from pathtrain.runs.opening import load
from pathtrain.stain.target import TARGET_FILE, of_run

# What else a run writes, or its commands by default
OTHERS = {log_seal.NAME, "report.html", "wandb.json", "wandb", "tensorboard", "evaluation", locks.NAME}


@dataclass
class Findings:
    """What is known of one file, or of several that belong together.

    Attributes:
        file: its path. problems: what is wrong with it, a line each.
        notes: what is to be known, and is no damage.
    """

    file: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {"file": self.file, "problems": self.problems, "notes": self.notes}


def check(path: Path, look: Callable[[], object]) -> Findings:
    """What an action says of a file; one file costs one file."""
    found = Findings(str(path))
    try:
        look()
    except PathprepError as error:
        found.problems.append(str(error))
    except OSError as error:
        found.problems.append(f"{error.filename or path}: cannot be read ({error.strerror})")
    return found


def verify_model(path: Path) -> Iterator[Findings]:
    """Check an exported model: its seal, the hashes of its files, and that the weights fit.

    Yields:
        Findings of the model, of its card, and of files that are not its own.
    """
    found = check(path, lambda: load(path))
    if not found.problems and "seal" not in read_config(path):
        found.notes.append(
            "written before exports had seals: compared by its fingerprint alone, if it has one"
        )
    yield found
    card = Findings(str(path / CARD_FILE))
    if not found.problems and (written := recorded(read_config(path)).get(CARD_FILE)):
        try:
            if hashlib.sha256(regular.read(path / CARD_FILE)).hexdigest() != written:
                card.notes.append("changed since it was exported: edited or damaged; the model is whole")
        except OSError as error:
            card.problems.append(f"{card.file}: cannot be read ({error.strerror}); export the model again")
    yield card
    yield from foreign(path, set(FILES))


def verify_run(run: Path) -> Iterator[Findings]:
    """Check a run: its recipe, description, target, log, every checkpoint and every milestone.

    Yields:
        Findings per file, or milestone; last those of files that no run writes.
    """
    yield check(run / described.INFO_FILE, lambda: _described(run))
    recipe = check(run / described.RECIPE_FILE, lambda: described.recipe_of(run))
    yield recipe
    if not recipe.problems and (run / TARGET_FILE).exists():
        yield check(run / TARGET_FILE, lambda: of_run(run, described.recipe_of(run)))
    if (run / LOG_FILE).exists() or (run / log_seal.NAME).exists():
        yield _log(run / LOG_FILE)
    yield from _checkpoints(run)
    for _, path in milestones.entries(run):
        yield from verify_model(path)
    own = {described.INFO_FILE, described.RECIPE_FILE, TARGET_FILE, LOG_FILE, "checkpoints", "encoders"}
    yield from foreign(run, own | OTHERS | {path.name for path in run.glob("nonfinite-*.json")})


def _described(run: Path) -> None:
    if not described.info_of(run) and checkpoint.entries(run):  # which are written after it
        raise CheckpointError(f"{run / described.INFO_FILE}: gone, or empty; bring it back from a copy")


def _checkpoints(run: Path) -> Iterator[Findings]:
    folder = checkpoint.folder(run)
    entries = {entry.file: entry for entry in checkpoint.entries(run)}
    for path in sorted(folder.glob("*.pt")):
        found = Findings(str(path))
        entry = entries.pop(path.name, None)
        try:
            with regular.open_regular(path) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            if entry is not None and digest != entry.sha256:
                found.problems.append(f"{path}: damaged (its SHA-256 differs); an older checkpoint is used")
            elif entry is None and not path.with_suffix(".json").exists():
                found.notes.append("has no .json beside it: it was not finished, and is not used")
        except OSError as error:
            found.problems.append(f"{path}: cannot be read ({error.strerror})")
        yield found
    for entry in entries.values():
        path = folder / entry.file
        yield Findings(str(path), [f"{path}: gone; an older checkpoint is used"])
    for path in sorted(folder.glob("*.json")):
        try:
            whole = is_whole(json.loads(regular.read(path)), checkpoint.SEALED_SINCE)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            whole = False
        yield Findings(str(path), [] if whole else [f"{path}: damaged; its checkpoint is not used"])
    yield from foreign(
        folder, {path.name for ending in ("pt", "json") for path in folder.glob(f"*.{ending}")}
    )


def _log(path: Path) -> Findings:
    found = Findings(str(path))
    try:
        lines = regular.read(path).splitlines(keepends=True)
    except FileNotFoundError:
        lines = []  # its seal tells
    except OSError as error:
        found.problems.append(f"{path}: cannot be read ({error.strerror})")
        return found
    if wrong := log_seal.differs(path.parent):
        found.problems.append(wrong)
    last = 0
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line.endswith(b"\n"):
            found.notes.append("its last line was cut by a kill; a resume drops it")
            break
        try:
            step = int(json.loads(line)["step"])
        except (ValueError, TypeError, KeyError, RecursionError):
            found.problems.append(f"{path}: line {number} is damaged; the page is drawn without it")
            continue
        if step < last:
            found.problems.append(f"{path}: line {number} is of step {step}, after step {last}")
        last = max(last, step)
    return found


def foreign(folder: Path, own: set[str]) -> Iterator[Findings]:
    """Files that are not ours, and what killed writers left."""
    dead = {left for left, _, _ in left_over(folder)}
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return
    for path in paths:
        if path.name in own:
            continue
        if path.name.startswith(PREFIX) or path in dead:
            note = "temporary, of a command that runs or was killed; the next one there removes it"
        else:
            note = "not of ours, and left alone"
        yield Findings(str(path), notes=[note])
