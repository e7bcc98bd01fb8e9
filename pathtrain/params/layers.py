"""How a linear layer on frozen features is trained, as two papers have it; quick to import.

exaonepath   arXiv 2408.00380: SGD, the last weights; see pathtrain.evaluate.tile_level.linear
eva          kaiko-ai/eva as the Midnight paper (arXiv 2504.05186) used it: AdamW, the best of the validations
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

from pathprep.params.settings import Setting, check

Protocol = Literal["exaonepath", "eva"]
Schedule = Literal["cosine", "constant", "epoch-cosine", "third"]
TRAINING = "Training"
FEW_EVERY, FEW_SHARE, FEW_DELTA = 10, 0.1, 1e-4  # of eva's task of 10 tiles a class


@dataclass(frozen=True)
class LayerParams:
    """How a linear layer is trained; the defaults are EXAONEPath's, which does not state a schedule.

    Attributes:
        lr, weight_decay: of the optimiser. momentum: of SGD.
        batch: tiles per step. iterations: steps.
        schedule: ``cosine`` to 0 over the steps; ``constant``; ``epoch-cosine``, as many epochs long as there
            are steps, so that it hardly falls; ``third``: a third of the lr for 5 epochs, then all of it.
        seeds: layers that are trained, each with its own first weights and order.
        optimizer: ``sgd``, or ``adamw`` with torch's other settings.
        first: weights: ``normal`` with SD 0.01 and bias 0, or ``uniform`` as torch's Linear has them.
        single: two classes by one output and its sigmoid.
        validated: the weights are those of the best validation (balanced accuracy, the first of equals),
            otherwise the last. Epochs are then whole: their last batch may be smaller.
        every: epochs between validations. patience: validations without one better by more than ``delta``
            before a layer is left; None: a share of those that there can be.
        per_class: tiles of each class that a layer is trained on, drawn anew for each; None: all.
    """

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch: int = 128
    iterations: int = 12_500
    schedule: Schedule = "cosine"
    seeds: int = 5
    optimizer: Literal["sgd", "adamw"] = "sgd"
    first: Literal["normal", "uniform"] = "normal"
    single: bool = False
    validated: bool = False
    every: int = 1
    patience: int | None = None
    delta: float = 0.0
    per_class: int | None = None

    def waits(self, tiles: int) -> int:
        """Validations without a better one that are waited for: eva's numbers are a fifth of those that the
        steps allow, a tenth of the fewer ones with 10 tiles a class.

        Args:
            tiles: that a layer is trained on.
        """
        if self.patience is not None:
            return self.patience
        epochs = self.iterations / math.ceil(tiles / self.batch)
        share = FEW_SHARE if self.per_class else 0.2
        return max(1, math.ceil(round(share * epochs / self.every, 6)))


EXAONEPATH = LayerParams()
EVA = LayerParams(
    lr=3e-4,
    momentum=0.0,
    weight_decay=0.01,  # torch's default for AdamW: eva states none
    batch=256,
    schedule="epoch-cosine",
    optimizer="adamw",
    first="uniform",
    single=True,
    validated=True,
)
PROTOCOLS: dict[Protocol, LayerParams] = {"exaonepath": EXAONEPATH, "eva": EVA}


@dataclass(frozen=True)
class LayerOptions:
    """What of a protocol is set otherwise; None: as it has it."""

    lr: Annotated[float | None, Setting("Default: 0.1 of SGD; eva: 3e-4 of AdamW.", TRAINING)] = None
    momentum: Annotated[float | None, Setting("Of SGD. Default: 0.9.", TRAINING)] = None
    weight_decay: Annotated[float | None, Setting("Default: 0; eva: 0.01.", TRAINING)] = None
    batch: Annotated[
        int | None, Setting("Tiles per step. Default: 128; eva: 256.", TRAINING, "sgd_batch")
    ] = None
    iterations: Annotated[int | None, Setting("Steps. Default: 12500.", TRAINING)] = None
    schedule: Annotated[
        Schedule | None,
        Setting(
            "Of the lr. Default: cosine (to 0; EXAONEPath's paper does not say); eva: epoch-cosine, which "
            "hardly falls; third: a third for 5 epochs, as eva has it since March 2025.",
            TRAINING,
        ),
    ] = None
    seeds: Annotated[
        int | None, Setting("Layers that are trained, from `seed` on. Default: 5.", TRAINING)
    ] = None
    per_class: Annotated[
        int | None,
        Setting(
            "So many tiles of each class, drawn for each layer: PCam-10 is 10 with `seeds` 50.", TRAINING
        ),
    ] = None
    patience: Annotated[
        int | None,
        Setting(
            "Of eva: validations without a better one. Default: a fifth of those there can be.", TRAINING
        ),
    ] = None

    def __post_init__(self) -> None:
        def positive(value: float | None) -> bool:
            return value is None or value > 0

        check(
            {
                "`lr` must be above 0": positive(self.lr),
                "`momentum` must be 0 to below 1": self.momentum is None or 0 <= self.momentum < 1,
                "`weight_decay` must not be negative": self.weight_decay is None or self.weight_decay >= 0,
                "`sgd_batch` must be above 0": positive(self.batch),
                "`iterations` must be above 0": positive(self.iterations),
                f"`schedule` must be {', '.join(get_args(Schedule))}": self.schedule
                in (None, *get_args(Schedule)),
                "`seeds` must be above 0": positive(self.seeds),
                "`per_class` must be above 0": positive(self.per_class),
                "`patience` must be above 0": positive(self.patience),
            }
        )

    def given(self) -> dict[str, Any]:
        """What is set."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def over(self, protocol: Protocol) -> LayerParams:
        """A protocol's way with what is set.

        Raises:
            UsageError: a setting that the protocol has no use for.
        """
        base = PROTOCOLS[protocol]
        check(
            {
                "`momentum`: `protocol` eva trains by AdamW, which has none; leave it out": (
                    self.momentum is None or base.optimizer == "sgd"
                ),
                "`patience`: `protocol` exaonepath takes the last weights and validates nothing": (
                    self.patience is None or base.validated
                ),
            }
        )
        made = replace(base, **self.given())
        if made.validated and made.per_class is not None:
            made = replace(made, every=FEW_EVERY, delta=FEW_DELTA)
        return made

    def differs(self, protocol: Protocol) -> list[str]:
        """Where it is not as the protocol has it, in words; PCam-10 is 10 tiles a class and 50 seeds."""
        base = PROTOCOLS[protocol]
        few = protocol == "eva" and self.per_class is not None
        usual = {"seeds": 50 if few else base.seeds, "per_class": 10 if few else None}
        found = []
        for name, value in {"seeds": base.seeds, **self.given()}.items():
            own = usual.get(name, getattr(base, name))
            if value != own:
                title = "sgd_batch" if name == "batch" else name
                found.append(f"{title} {value:g}" if isinstance(value, int | float) else f"{title} {value}")
                found[-1] += " set" if own is None else f", not {own}"
        return found
