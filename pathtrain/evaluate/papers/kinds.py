"""The evaluations that a table is made of: what each needs, and how it is run on one model's data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from pathprep.params.settings import flat
from pathtrain.evaluate.units import Scored
from pathtrain.params.evaluation import LinearParams
from pathtrain.params.expression import HestParams
from pathtrain.params.layers import LayerOptions
from pathtrain.params.segmentation import SegmentationParams
from pathtrain.runs.model import LoadedModel

Source = Mapping[str, Any]  # of a task: what it is given, paths as Path


class Run(Protocol):
    """Measures a model on a task's data."""

    def __call__(self, model: LoadedModel, source: Source, cache: Path | None, **settings: Any) -> Scored: ...


@dataclass(frozen=True)
class Kind:
    """An evaluation.

    Attributes:
        params: whose flat names its settings have.
        needs: keys that a task must have. takes: those that it may have.
        paths: which of both are files or folders. tiles: which of these hold tiles with labels.
        run: measures it.
    """

    params: Any
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    paths: tuple[str, ...]
    run: Run
    tiles: tuple[str, ...] = ()

    @property
    def settings(self) -> frozenset[str]:
        """Flat names of its settings."""
        return frozenset(flat(self.params))


def _of(module: str, name: str) -> Callable[..., Scored]:
    """A function that is loaded when it is called."""

    def call(*args: Any, **more: Any) -> Scored:
        found: Scored = getattr(import_module(f"pathtrain.evaluate.{module}"), name)(*args, **more)
        return found

    return call


def _plain(module: str, name: str) -> Run:
    """An evaluation that takes a model and its data, and keeps features by itself."""
    scored = _of(module, name)

    def run(model: LoadedModel, source: Source, cache: Path | None, **settings: Any) -> Scored:
        return scored(model, **source, **{**({} if cache is None else {"cache": cache}), **settings})

    return run


def _segmentation(model: LoadedModel, source: Source, cache: Path | None, **settings: Any) -> Scored:
    if "baselines" in settings:  # patterns have no tokens to segment by
        left = [name for name in settings["baselines"].split(",") if name != "lbp"]
        settings = {**settings, "baselines": ",".join(left) or "none"}
    return _plain("pixel_level.study", "segmentation_scored")(model, source, cache, **settings)


# Settings of linear evaluation that others have by the same name, and mean something else by
LAYER = frozenset(flat(LayerOptions)) - {"seeds"} | {"protocol", "whole"}
SIDES = ("train", "val", "test")
KINDS: dict[str, Kind] = {
    "linear": Kind(
        LinearParams,
        ("train",),
        ("val", "test", "labels"),
        (*SIDES, "labels"),
        _plain("tile_level.linear", "linear_scored"),
        SIDES,
    ),
    "segmentation": Kind(SegmentationParams, ("train",), ("val", "test"), SIDES, _segmentation),
    "hest": Kind(
        HestParams,
        ("folder",),
        ("genes", "patients"),
        ("folder", "genes", "patients"),
        _plain("expression.study", "hest_scored"),
    ),
}
