"""What a trained network is compared with: the weights it started from, random ones, colour and texture.

    start       the weights that the run's recipe names: what the training has added to them
    random      the same architecture with random weights, of several seeds other than the run's own
    colour      six numbers per tile: mean and SD of red, green and blue
    colour+LBP  these and its local binary patterns (pathtrain.features.texture)

All see the same pixels, normalised to the same stain target if the model is trained for one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np

from pathprep.errors import PathprepError
from pathtrain.data.whole_tiles import Ints, Tiles
from pathtrain.evaluate.kept_features import encode_kept
from pathtrain.evaluate.statistics import Floats
from pathtrain.features.texture import COLOURS
from pathtrain.params.baselines import BaselineParams
from pathtrain.params.encoding import How
from pathtrain.runs.model import LoadedModel
from pathtrain.runs.variants import started, untrained

MODEL, START, RANDOM, COLOUR, TEXTURE = "model", "start", "random", "colour", "colour+LBP"
HANDMADE = (COLOUR, TEXTURE)  # in units of their own: they are standardised


@dataclass(frozen=True)
class Beside:
    """A model and its baselines, ready to be given tiles.

    Attributes:
        networks: name -> networks, several of random weights.
        handmade: the names of HANDMADE that are wanted.
        about: JSON-able: name -> what it is; of those that cannot be had ``missing``, the reason.
    """

    networks: dict[str, list[LoadedModel]]
    handmade: list[str]
    about: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, model: LoadedModel, params: BaselineParams, seed: int) -> "Beside":
        """The baselines that are chosen; a start that cannot be had is left out, and ``about`` says why.

        Args:
            seed: the first of the random networks', but for the run's own.
        """
        networks, about = {MODEL: [model]}, dict[str, dict[str, Any]]()
        own = model.start.seed if model.start is not None and model.start.init == "random" else None
        if "start" in params:
            try:
                networks[START] = [started(model)]
                assert model.start is not None
                about[START] = {"init": model.start.init, **({} if own is None else {"seed": own})}
            except PathprepError as error:
                about[START] = {"missing": str(error)}
        if "random" in params:
            seeds = other_seeds([model], seed, params.seeds)
            networks[RANDOM] = [untrained(model, each) for each in seeds]
            about[RANDOM] = {"seeds": seeds}
        return cls(networks, [COLOUR] * ("colour" in params) + [TEXTURE] * ("lbp" in params), about)

    def encode(
        self, tiles: Tiles, order: Ints, how: How, advance: Callable[[int], None] = lambda count: None
    ) -> dict[str, list[Floats]]:
        """Features of the tiles in ``order``: name -> (M, D), several of random weights; see encode.

        With a ``cache`` in ``how``, only those are made that it has not.
        """
        models = [model for each in self.networks.values() for model in each]
        found, pixels = encode_kept(models, tiles, order, how, advance, lbp=TEXTURE in self.handmade)
        rest = iter(found)
        features = {name: list(islice(rest, len(each))) for name, each in self.networks.items()}
        whole = {COLOUR: pixels[:, :COLOURS], TEXTURE: pixels}
        return features | {name: [np.ascontiguousarray(whole[name])] for name in self.handmade}


def other_seeds(models: Sequence[LoadedModel], first: int, number: int) -> list[int]:
    """Seeds of random networks, from ``first`` on: the seed of a run that began with random weights gives its
    start, not another network.
    """
    own = {each.start.seed for each in models if each.start is not None and each.start.init == "random"}
    return list(islice((seed for seed in count(first) if seed not in own), number))


def said(about: dict[str, dict[str, Any]]) -> list[str]:
    """Sentences on a result's ``baselines``: what each is, or why it is left out."""
    lines = []
    for name, what in about.items():
        if "missing" in what:
            lines.append(f"{name}: left out: {what['missing']}")
        elif "init" in what:
            seed = f", seed {what['seed']}" if "seed" in what else ""
            lines.append(f"{name}: what training began with, {what['init']}{seed}")
        elif "is" in what:
            lines.append(f"{name}: {what['is']}")
        else:
            lines.append(f"{name}: mean of random weights, seeds {', '.join(map(str, what['seeds']))}")
    return lines
