"""The evaluations that a table is made of: what each needs, and how it is run on one model's data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from pathprep.params.settings import flat
from pathtrain.evaluate.units import Scored
from pathtrain.params.evaluation import LayerParams, LinearParams
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


def _linear(model: LoadedModel, source: Source, cache: Path | None, **settings: Any) -> Scored:
    return _of("tile_level.linear", "linear_scored")(model, **source, cache=cache, **settings)


def _segmentation(model: LoadedModel, source: Source, cache: Path | None, **settings: Any) -> Scored:
    return _of("segmentation.study", "segmentation_scored")(model, **source, **settings)


def _hest(model: LoadedModel, source: Source, cache: Path | None, **settings: Any) -> Scored:
    return _of("expression.hest", "hest_scored")(model, **source, cache=cache, **settings)


def _robustness(model: LoadedModel, source: Source, cache: Path | None, **settings: Any) -> Scored:
    return _of("robustness.study", "robustness_scored")(model, **source, cache=cache, **settings)


LAYER = frozenset(flat(LayerParams)) - {"seeds"}

KINDS: dict[str, Kind] = {
    "linear": Kind(
        LinearParams,
        ("train",),
        ("val", "test", "labels"),
        ("train", "val", "test", "labels"),
        _linear,
        ("train", "val", "test"),
    ),
}
