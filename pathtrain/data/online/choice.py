"""Which slide and which MPP come at a position of the run, computed from the seed alone.

Slides are independent draws with fixed probabilities, then one of the MPPs that the slide can give. A draw
that falls on a slide that was dropped is made again under the next number, so that it falls on another.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathprep.params.shard import MPP
from pathprep.permutation import Ints, hashed, uniform
from pathprep.slides.own_names import SlideNames
from pathprep.surveys.account import gives, side_of
from pathprep.surveys.folder import Survey
from pathprep.words import counted
from pathtrain.data import cluster_table, label_table
from pathtrain.data.sampling import CLUSTER, check_table
from pathtrain.recipes.online import OnlineConfig
from pathtrain.recipes.sampling import SamplingConfig

_SLIDE = 0x736C696465  # keeps these hashes apart from others
SHOWN = 5  # names in a message

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """K slides and M resolutions, with their probabilities.

    Attributes:
        slides: (K) names, sorted. mpps: (M) micrometres per pixel.
        weights: (K,) of the slides. shares: (K, M) of each slide's MPPs, 0 where it does not give one.
        tiles: (K,) tiles that would cover the tissue of each: what an epoch is counted by.
    """

    slides: Sequence[str]
    mpps: tuple[float, ...]
    weights: Floats
    shares: Floats
    tiles: Ints

    def draw(self, positions: Ints, numbers: Ints, seed: int) -> tuple[Ints, Ints]:
        """(B,) slides and MPPs, by number, at positions (B,) of the run, in their draws of these numbers."""
        drawn = uniform(hashed(seed, _SLIDE, positions, numbers), 2)
        ends = np.cumsum(self.weights)
        slides = np.searchsorted(ends / ends[-1], drawn[:, 0], side="right").astype(np.int64)
        return slides, self._mpps(slides, drawn[:, 1])

    def mpps_of(self, slides: Ints, positions: Ints, seed: int) -> Ints:
        """(B,) an MPP of each of some slides (B,), by number."""
        return self._mpps(slides, uniform(hashed(seed, _SLIDE, positions), 1)[:, 0])

    def _mpps(self, slides: Ints, drawn: Floats) -> Ints:
        ends = np.cumsum(self.shares[slides], axis=1)
        found: Ints = (ends / ends[:, -1:] <= drawn[:, None]).sum(axis=1)
        return found

    def without(self, held_out: Sequence[str]) -> "Choice":
        """The same, but that some slides do not come."""
        weights = self.weights * ~np.isin(np.array(self.slides), list(held_out))
        return Choice(self.slides, self.mpps, weights, self.shares, self.tiles)

    def digest(self) -> str:
        """16 hex digits that differ where the probabilities do."""
        digest = hashlib.sha256(repr((list(self.slides), self.mpps)).encode())
        for part in (self.weights, self.shares):
            digest.update(part.tobytes())
        return digest.hexdigest()[:16]

    def said(self) -> str:
        """What it comes to, for people."""
        part = self.weights / self.weights.sum()
        mean = part @ (self.shares / self.shares.sum(axis=1, keepdims=True).clip(1e-12))
        parts = [f"{share:.0%} at {mpp:g} MPP" for mpp, share in zip(self.mpps, mean, strict=True) if share]
        there = part[part > 0]
        return (
            f"tiles are drawn from {counted(len(there))}, {there.min():.2%} to {there.max():.2%} of them "
            f"from each; {', '.join(parts)}"
        )


def choice(survey: Survey, sampling: SamplingConfig, online: OnlineConfig) -> tuple[Choice, list[str]]:
    """What a recipe draws from a survey, and lines on slides that are left out.

    ``sampling.by`` tile: slides in proportion to their tissue, as a dataset has tiles of it; ``slide``: every
    one equally often; a column of ``sampling.table``: its values equally often, or by ``weights``, and the
    slides of a value by their tissue.

    Raises:
        UsageError: the survey cannot be drawn from so, or no slide gives any of the MPPs.
    """
    if sampling.datasets is not None:
        raise UsageError(f"{survey.root}: a survey is one; sampling.datasets goes with several datasets")
    asked = sampling.mpps or {MPP: 1.0}
    mpps, weights = tuple(asked), np.array(list(asked.values()))
    names = list(survey.slides)
    able = np.array(
        [[gives(survey.slides[name], mpp, online.tile, online.coarser) for mpp in mpps] for name in names]
    )
    shares = able * weights
    left = [name for name, row in zip(names, able, strict=True) if not row.any()]
    if len(left) == len(names):
        finest = min(slide.mpp for slide in survey.slides.values())
        raise UsageError(
            f"{survey.root}: none of {counted(len(names))} gives tiles of {online.tile} px at "
            f"{', '.join(f'{mpp:g}' for mpp in mpps)} MPP: they have no tissue, are smaller than a tile, or "
            f"more than online.coarser={online.coarser:g} times coarser (the finest has {finest:g} MPP); see "
            "sampling.mpps and online.tile"
        )
    kept = [name for name in names if name not in set(left)]
    rows = np.flatnonzero(able.any(axis=1))
    areas = np.array([survey.slides[name].area for name in kept])
    made = Choice(
        kept,
        mpps,
        _weights(survey, sampling, kept, areas),
        shares[rows],
        _tiles(survey, kept, shares[rows], asked, online),
    )
    said = []
    if never := [f"{mpps[number]:g}" for number in np.flatnonzero(~able.any(axis=0))]:
        said.append(f"no slide gives tiles at {', '.join(never)} MPP: none is drawn there")
    if left:
        shown = ", ".join(left[:SHOWN]) + (", ..." if len(left) > SHOWN else "")
        said.append(f"{counted(len(left))} not drawn, for they give none of the MPPs: {shown}")
    return made, said


def _tiles(
    survey: Survey, names: list[str], shares: Floats, asked: Mapping[float, float], online: OnlineConfig
) -> Ints:
    """Tiles that would cover the tissue once, by the mean side of a slide's MPPs; at least 1."""
    found = []
    for name, row in zip(names, shares, strict=True):
        slide = survey.slides[name]
        sides = np.array([side_of(slide, mpp, online.tile) * slide.mpp for mpp in asked])
        found.append(max(1, round(slide.area / float(row @ sides / row.sum()) ** 2)))
    return np.array(found, np.int64)


def _weights(survey: Survey, sampling: SamplingConfig, names: list[str], areas: Floats) -> Floats:
    if sampling.by == "tile":
        return areas
    if sampling.by == "slide":
        _check_names(sampling, names)
        return np.array([(sampling.weights or {}).get(name, 1.0) for name in names])
    if sampling.by == CLUSTER and sampling.table is None:
        raise UsageError(f"{survey.root}: a survey has no tiles to cluster; draw by slide or tile")
    if sampling.table is None:
        raise UsageError(
            f"{survey.root}: a survey has no column {sampling.by}; give sampling.table, a table of slides "
            "that has it"
        )
    check_table(sampling.table)
    if cluster_table.is_one(sampling.table):
        raise UsageError(
            f"sampling.table {sampling.table}: holds clusters of a dataset's tiles, of which a survey has "
            "none; draw by slide or tile, or train on the dataset"
        )
    own = {name: (survey.slides[name].own_name,) for name in names}
    table = label_table.read([sampling.table], SlideNames.of(names, own))
    if sampling.by not in table.cells:
        raise UsageError(
            f"sampling.by: {sampling.table} has no column {sampling.by}; there are {', '.join(table.cells)}"
        )
    cells: dict[str, Any] = dict(zip(table.slides, table.labels_of(sampling.by), strict=True))
    if without := [name for name in names if not cells.get(name)]:
        shown = ", ".join(without[:SHOWN]) + (", ..." if len(without) > SHOWN else "")
        raise UsageError(
            f"{sampling.table}: {counted(len(without), 'slide has', 'slides have')} no {sampling.by} "
            f"({shown}) and would never be drawn; give them one"
        )
    values = [cells[name] for name in names]
    _check_names(sampling, sorted(set(values)))
    totals: dict[str, float] = {}
    for value, area in zip(values, areas.tolist(), strict=True):
        totals[value] = totals.get(value, 0.0) + area
    return np.array(
        [
            (sampling.weights or {}).get(value, 1.0) * area / totals[value]
            for value, area in zip(values, areas.tolist(), strict=True)
        ]
    )


def _check_names(sampling: SamplingConfig, names: Sequence[str]) -> None:
    if unknown := sorted((sampling.weights or {}).keys() - set(names)):
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        raise UsageError(f"sampling.weights: there is no {sampling.by} {unknown[0]}; there are {shown}")
