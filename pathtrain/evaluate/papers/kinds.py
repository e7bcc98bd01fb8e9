"""The evaluations that a table is made of: what each needs, and how it is run on one model's data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from pathprep.params.settings import flat
from pathtrain.evaluate.papers import slide_tasks
from pathtrain.evaluate.units import Scored
from pathtrain.params.evaluation import LinearParams
from pathtrain.params.expression import HestParams
from pathtrain.params.layers import LayerOptions
from pathtrain.params.robustness import RobustnessParams
from pathtrain.params.segmentation import SegmentationParams
from pathtrain.runs.model import LoadedModel

Source = Mapping[str, Any]  # of a task: what it is given, paths as Path


class Run(Protocol):
    """Measures models on a task's data; all but a ``joint`` kind are given one."""

    def __call__(
        self, models: Sequence[LoadedModel], source: Source, cache: Path | None, **settings: Any
    ) -> Scored: ...


@dataclass(frozen=True)
class Kind:
    """An evaluation.

    Attributes:
        settings: flat names of what may be set.
        needs: keys that a task must have. takes: those that it may have.
        paths: which of both are files or folders. tiles: which of these hold tiles with labels.
        named: which are files, or the names of what comes with the package.
        run: measures it. joint: whether it measures all models at once, and tells their differences.
    """

    settings: frozenset[str]
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    paths: tuple[str, ...]
    run: Run
    tiles: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    joint: bool = False


def _of(module: str, name: str) -> Callable[..., Scored]:
    """A function that is loaded when it is called."""

    def call(*args: Any, **more: Any) -> Scored:
        found: Scored = getattr(import_module(f"pathtrain.evaluate.{module}"), name)(*args, **more)
        return found

    return call


def _plain(module: str, name: str) -> Run:
    """An evaluation that takes a model and its data, and keeps features by itself."""
    scored = _of(module, name)

    def run(models: Sequence[LoadedModel], source: Source, cache: Path | None, **settings: Any) -> Scored:
        (model,) = models
        return scored(model, **source, **{**({} if cache is None else {"cache": cache}), **settings})

    return run


def _segmentation(
    models: Sequence[LoadedModel], source: Source, cache: Path | None, **settings: Any
) -> Scored:
    if "baselines" in settings:  # patterns have no tokens to segment by
        left = [name for name in settings["baselines"].split(",") if name != "lbp"]
        settings = {**settings, "baselines": ",".join(left) or "none"}
    return _plain("pixel_level.study", "segmentation_scored")(models, source, cache, **settings)


def _names(params: Any) -> frozenset[str]:
    """The cache is the table's, one for all."""
    return frozenset(flat(params)) - {"cache"}


# Settings of linear evaluation that others have by the same name, and mean something else by
LAYER = frozenset(flat(LayerOptions)) - {"seeds"} | {"protocol", "whole"}
SIDES = ("train", "val", "test")
KINDS: dict[str, Kind] = {
    "linear": Kind(
        _names(LinearParams),
        ("train",),
        ("val", "test", "labels"),
        (*SIDES, "labels"),
        _plain("tile_level.linear", "linear_scored"),
        SIDES,
    ),
    "segmentation": Kind(_names(SegmentationParams), ("train",), ("val", "test"), SIDES, _segmentation),
    "hest": Kind(
        _names(HestParams),
        ("folder",),
        ("genes", "patients"),
        ("folder", "genes", "patients"),
        _plain("expression.study", "hest_scored"),
    ),
    "slides": Kind(
        slide_tasks.settings(),
        ("data", "labels"),
        ("tasks", "task"),
        ("data", "labels"),
        slide_tasks.slides_scored,
        named=("tasks",),
        joint=True,
    ),
    "robustness": Kind(
        _names(RobustnessParams),
        ("dataset", "by"),
        ("group", "same", "columns", "names", "labels"),
        ("dataset", "columns", "labels"),
        _plain("shifts.study", "robustness_scored"),
    ),
}
