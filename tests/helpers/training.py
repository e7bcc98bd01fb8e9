"""Runs of the tiny recipe in this process or as commands, and comparing what they leave."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from helpers.toys import TINY
from pathtrain.cli.progress import watcher
from pathtrain.recipes.load import load
from pathtrain.runs import checkpoint
from pathtrain.training.logs import rows
from pathtrain.training.loop import TrainSummary
from pathtrain.training.pretrain import pretrain

STEPS = 24
SETTINGS = (
    *TINY,
    f"steps={STEPS}",
    "batch=6",
    "log_every=2",
    "checkpoint.every=5",
    "dino.head={out_dim: 32, hidden_dim: 16, bottleneck_dim: 8, layers: 3, norm_last_layer: true}",
    "dino.freeze_last_layer_steps=7",
    "dino.teacher_temp={start: 0.03, end: 0.05, steps: 13}",
    "dino.drop_path=0.3",
    "model.kwargs.depth=2",
    "optim.warmup_steps=4",
)
TIMES = ("images_s", "data_wait", "seconds_step")


@contextmanager
def said_to(out: io.StringIO) -> Iterator[None]:
    """What pathtrain logs is written there, a line each."""
    logger, handler = logging.getLogger("pathtrain"), logging.StreamHandler(out)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def train(
    dataset: Path,
    run: Path,
    *more: str,
    fresh: bool = False,
    change: bool = False,
    stop_on_collapse: bool = False,
) -> tuple[TrainSummary, str]:
    """In this process; returns what it said too."""
    out = io.StringIO()
    with said_to(out), watcher(Console(file=out, width=200)) as watch:
        recipe = load("smoke", [*SETTINGS, *more])
        summary = pretrain(
            dataset, recipe, run, fresh=fresh, change=change, stop_on_collapse=stop_on_collapse, watch=watch
        )
    return summary, out.getvalue()


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {name: leaf for key, part in items for name, leaf in flat(part, f"{prefix}/{key}").items()}
    return {prefix: value}


def assert_same_to_the_bit(run: Path, other: Path) -> None:
    mine, theirs = flat(checkpoint.load(run)), flat(checkpoint.load(other))
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        same = torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name]
        assert same, name


def logged(run: Path) -> list[dict[str, Any]]:
    """The rows without what depends on the clock."""
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows(run)]


def command(dataset: Path, run: Path) -> list[str]:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return [sys.executable, "-m", "pathtrain", "pretrain", str(dataset), "--out", str(run), *settings]
