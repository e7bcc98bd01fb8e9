"""Trainings of the study by the command, some side by side, and none twice."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathprep.words import counted
from small.core.config import TREE, Study

LOGGED = 4000  # characters of a failed training's words that are shown


@dataclass(frozen=True)
class Job:
    """A training.

    Attributes:
        name: its folder's, in the study's runs.
        recipe: a YAML file, or a recipe's name.
        data: a dataset.
        settings: changes of the recipe, ``key=value``.
        labels: of slides, a CSV.
    """

    name: str
    recipe: Path | str
    data: Path
    settings: tuple[str, ...] = ()
    labels: Path | None = None

    def key(self) -> str:
        """A hash of the recipe with its changes and of the data's place."""
        text = self.recipe.read_text() if isinstance(self.recipe, Path) else self.recipe
        said = [text, self.data.name, *self.settings, str(self.labels and self.labels.name)]
        return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]


def trained(study: Study, jobs: Sequence[Job]) -> dict[str, Path]:
    """The jobs' run folders, by name; what is not finished is trained, ``at_once`` side by side.

    Raises:
        UsageError: a folder holds a training of other settings; or a training failed: its last words.
    """
    left = [job for job in jobs if not _finished(study, job)]
    if left:
        print(f"{counted(len(left), 'training')}: {', '.join(job.name for job in left)}", file=sys.stderr)
    with ThreadPoolExecutor(study.common.at_once) as pool:
        for done in [pool.submit(_train, study, job) for job in left]:
            done.result()
    return {job.name: _folder(study, job) for job in jobs}


def _folder(study: Study, job: Job) -> Path:
    return study.work / "runs" / job.name


def _done(study: Study, job: Job) -> Path:
    return study.work / "runs" / f"{job.name}.json"


def seconds(study: Study, name: str) -> float:
    """How long a training took, of the last process that went on with it."""
    return float(json.loads((study.work / "runs" / f"{name}.json").read_text())["seconds"])


def _finished(study: Study, job: Job) -> bool:
    done = _done(study, job)
    if not done.is_file():
        return False
    if json.loads(done.read_text())["key"] != job.key():
        raise UsageError(
            f"{_folder(study, job)}: was trained by another recipe or other settings; remove it, and "
            f"{done.name}"
        )
    return True


def _train(study: Study, job: Job) -> None:
    run = _folder(study, job)
    run.parent.mkdir(parents=True, exist_ok=True)
    words = ["-m", "pathtrain", "pretrain", str(job.data), "--recipe", str(job.recipe), "--out", str(run)]
    for setting in job.settings:
        words += ["--set", setting]
    if job.labels is not None:
        words += ["--labels", str(job.labels)]
    threads = str(study.common.threads)
    environment = {
        **os.environ,
        "PYTHONPATH": str(TREE),
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    start = time.monotonic()
    ended = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
    if ended.returncode:
        raise UsageError(f"training {job.name} failed:\n{(ended.stdout + ended.stderr)[-LOGGED:]}")
    said = {"key": job.key(), "seconds": round(time.monotonic() - start, 1)}
    atomic.write_bytes(_done(study, job), json.dumps(said).encode())
