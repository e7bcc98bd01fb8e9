"""Decoders of every kind of features and seed, trained on training windows, scored on test images."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pathtrain.data.segmented.images import Images
from pathtrain.data.segmented.truth import IGNORED, Classes, Truth
from pathtrain.distributed.workers import pick_device
from pathtrain.evaluate.pixel_level import pictures
from pathtrain.evaluate.pixel_level.decoder import Decoder
from pathtrain.evaluate.pixel_level.results import plain, rows_of, whole
from pathtrain.evaluate.pixel_level.scoring import (
    OF_OBJECTS,
    Guess,
    Sums,
    as_units,
    guess_of,
    image_sums,
    published_dice,
    together,
)
from pathtrain.evaluate.pixel_level.tokens import Tokens
from pathtrain.evaluate.pixel_level.training import Batches, train_decoder
from pathtrain.evaluate.pixel_level.windows import Box, Windows
from pathtrain.evaluate.units import Units
from pathtrain.params.segmentation import SegmentationParams
from pathtrain.runs.model import LoadedModel

log = logging.getLogger(__name__)

HELD = 200_000_000  # pixels of test masks that are held in memory: 1 GB; more are read again
TOLD = 10  # times that a decoder's training says how far it is

# Of each network of a name, a side's tokens; None for a decoder without
Kinds = Mapping[str, Sequence[Mapping[str, Tokens | None]]]


@dataclass(frozen=True)
class Drawn:
    """A test image that is to be drawn, with what each kind of features made of it."""

    panels: dict[str, Classes] = field(default_factory=dict)
    areas: list[Box] = field(default_factory=list)

    def add(self, name: str, guess: Guess, truth: Truth) -> None:
        """Keep the first guess of a name."""
        if not self.areas:
            self.areas.append(guess.area)
            self.panels["truth"] = truth.part(*guess.area).classes
        self.panels.setdefault(name, guess.classes)


class Trials:
    """Trains and scores decoders.

    Args:
        model: whose normalisation images have. cut: the windows of train, test and perhaps val.
        classes: background first. select: the side that the weights are chosen by; or ``last``.
        out: folder of pictures; None: none.
    """

    def __init__(
        self,
        model: LoadedModel,
        cut: Mapping[str, Windows],
        classes: list[str],
        params: SegmentationParams,
        select: str,
        out: Path | None,
    ) -> None:
        self._model, self._cut, self._classes, self._params = model, cut, classes, params
        self._select, self._out = select, out
        self._test: Images = cut["test"].images
        self._truths: dict[int, Truth] = {}
        self._hold = int(self._test.account.sides.prod(axis=1).sum()) <= HELD
        count = len(self._test)
        wanted = min(params.pictures, count) if out is not None else 0
        self._drawn = {round(place): Drawn() for place in np.linspace(0, count - 1, wanted)}  # evenly

    def run(self, kinds: Kinds) -> tuple[list[dict[str, Any]], dict[tuple[str, str], Units]]:
        """Rows as results have them, and the units of their figures.

        Raises:
            TrainError: a decoder's training diverges.
        """
        settings, first = self._params.decoder, self._params.seed
        told = Told(sum(map(len, kinds.values())) * settings.seeds, settings.steps)
        device = pick_device(self._params.how.device)
        every: dict[str, list[dict[str, Units]]] = {name: [] for name in kinds}
        steps: dict[str, list[int]] = {name: [] for name in kinds}
        for name, networks in kinds.items():
            for own in networks:
                batches = {
                    side: Batches(each, own[side], self._model, device) for side, each in self._cut.items()
                }
                for seed in range(first, first + settings.seeds):
                    told.begin(name, seed)
                    decoder, step = self._trained(batches, seed, told)
                    every[name].append(self._scored(decoder, batches["test"], name))
                    steps[name].append(step)
        self._draw()
        means = {name: together(each) for name, each in every.items()}
        rows = rows_of(means, every, steps, self._classes, first)
        return rows, {(name, key): units for name, own in means.items() for key, units in own.items()}

    def ceiling(self) -> dict[str, float | None]:
        """What the true classes would give: figures of objects that the same watershed makes of them."""
        test, count, found = self._test, len(self._classes), list[Sums]()
        if not test.account.instances:
            return {}
        for number in range(len(test)):
            area, truth = self._cut["test"].area(number), self._truth(number)
            classes = truth.part(*area).classes
            perfect = Guess(area, np.where(classes == IGNORED, 0, classes).astype(np.uint8), [])
            found.append(image_sums(perfect, truth, count, self._params.objects, True))
        groups, kinds = ([getattr(place, what) for place in test.places] for what in ("group", "kind"))
        units = as_units(found, groups, kinds)
        return {key: plain(whole(units[key])) for key in OF_OBJECTS}

    def _trained(self, batches: Mapping[str, Batches], seed: int, told: "Told") -> tuple[Decoder, int]:
        watched, count = batches.get(self._select), len(self._classes)

        def monitor(decoder: Decoder) -> float:
            assert watched is not None
            return published_dice(decoder, watched, count, self._params.decoder.batch)

        return train_decoder(
            batches["train"],
            count,
            self._params.decoder,
            seed,
            None if watched is None else monitor,
            told.step,
        )

    def _scored(self, decoder: Decoder, batches: Batches, name: str) -> dict[str, Units]:
        count, params, test = len(self._classes), self._params, self._test
        sums: list[Sums] = []
        for number in range(len(test)):
            guess = guess_of(decoder, batches, number, count, params.decoder.batch)
            truth = self._truth(number)
            sums.append(image_sums(guess, truth, count, params.objects, test.account.instances))
            if number in self._drawn:
                self._drawn[number].add(name, guess, truth)
        groups, kinds = ([getattr(place, what) for place in test.places] for what in ("group", "kind"))
        return as_units(sums, groups, kinds)

    def _truth(self, number: int) -> Truth:
        found = self._truths.get(number) or self._test.truth(number)
        if self._hold:
            self._truths[number] = found
        return found

    def _draw(self) -> None:
        for number, found in self._drawn.items():
            assert self._out is not None
            area, name = found.areas[0], self._test.places[number].name
            pixels = self._test.pixels(number)
            part = pixels[area.top : area.top + area.height, area.left : area.left + area.width]
            path = self._out / f"{number:05d}-{Path(name).stem}.png"
            pictures.draw(path, np.ascontiguousarray(part), found.panels, self._classes, name)


class Told:
    """Says how far the training of decoders is, and how long it will take.

    Args:
        decoders: in all. steps: of each.
    """

    def __init__(self, decoders: int, steps: int) -> None:
        self._decoders, self._steps, self._number, self._name = decoders, steps, 0, ""

    def begin(self, name: str, seed: int) -> None:
        """The next decoder."""
        self._number += 1
        self._name = f"{name}, seed {seed}"

    def step(self, step: int, seconds: float) -> None:
        """A step is done, of which one takes so many seconds."""
        first = self._number == 1 and step == 3
        if first or step % max(1, self._steps // TOLD) == 0:
            left = (self._decoders - self._number) * self._steps + self._steps - step
            log.info(
                "decoder %d of %d (%s): step %d of %d, %.2f s each, about %.0f min left for all",
                self._number, self._decoders, self._name, step, self._steps, seconds, left * seconds / 60,
            )  # fmt: skip
