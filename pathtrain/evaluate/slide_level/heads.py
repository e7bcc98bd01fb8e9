"""The heads that a hierarchical run has learnt, on the slides of any dataset."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathprep.folders import open_dataset
from pathtrain.data import slide_labels
from pathtrain.data.slide_labels import LabelTask
from pathtrain.data.slide_stream import SlideIndex
from pathtrain.distributed.workers import pick_device
from pathtrain.methods.task_scorer import TaskScorer
from pathtrain.params.encoding import Device
from pathtrain.runs.hierarchical import open_run, quiet_stage

log = logging.getLogger(__name__)


def tasks(
    run: str | Path, dataset: str | Path, labels: str | Path, *, device: Device = "auto", threads: int = 2
) -> dict[str, Any]:
    """Score a run's heads on a dataset; every labelled slide counts, whatever its split.

    Args:
        run: a run folder of the recipe exaonepath2 or the like.
        dataset: of slides.
        labels: CSV or Parquet: slide_id and a column per task.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: that decode tiles.

    Returns:
        JSON-able: per task its figures (see pathtrain.methods.task_scorer), None where undefined, and
        ``slides``.

    Raises:
        UsageError: the run has no heads; the labels do not fit run or dataset.
        CheckpointError, DatasetError: run or dataset cannot be read.
    """
    run, labels, where = Path(run), Path(labels), pick_device(device)
    method, recipe = open_run(run, where)
    if not method.tasks:
        raise UsageError(f"{run}: has no slide-level heads: none of its phases trains on slides")
    data = open_dataset(Path(dataset))
    known = data.slide_names(name for name, count in data.tile_counts().items() if count)
    of_run = tuple(LabelTask.of(entry) for entry in method.tasks)
    found = slide_labels.read_for(labels, known, of_run)
    for line in found.account:
        log.info("%s", line)
    rows = np.flatnonzero((found.values != slide_labels.UNKNOWN).any(axis=1))
    if not len(rows):
        raise UsageError(f"{labels}: no slide has a label of the run's tasks")
    device_id = where.index or 0 if where.type == "cuda" else None
    stage = quiet_stage(data, recipe, run)
    return TaskScorer(method, SlideIndex(data), found, stage, device_id, threads).score(rows)
