"""Linear evaluation: one linear layer on frozen features, as EXAONEPath 1.0's paper trains it, or eva.

EXAONEPath (``protocol`` exaonepath).
From the paper (arXiv 2408.00380): features of the frozen encoder, no augmentation; tiles normalised
(Macenko) to the target of the encoder's training, those that their publisher normalised as well; resized
to 256 and cropped to the central 224; SGD with lr 0.1, momentum 0.9 and no weight decay, batch 128, 12,500
iterations; the last weights are used. The training set is divided 80:20 into what is learnt from and what
validates. Where the last weights count, the 20 % are of no use: with a test set they are left out, so that
figures can be compared (``whole`` learns from all); without one they are the test set. Here by group.

Unknown, hence choices:
    lr schedule     half a cosine from lr to 0, as DINO's eval_linear.py has; or constant
    first weights   normal with SD 0.01, bias 0, as DINO's
    feature scale   as the encoder gives them; colour, whose scale is arbitrary, is standardised
    which 80 %      whole groups at random by the seed, the classes' shares kept as far as groups allow
    order           permutations of the training tiles, one after the other; batches may reach over an end

eva (kaiko-ai/eva; the Midnight paper, arXiv 2504.05186). No augmentation; the shorter side to 224, the
central 224; AdamW with lr 3e-4 and weight decay 0.01, batch 256, 12,500 steps in whole epochs; balanced
accuracy on the validation part after each epoch, the weights of the best one; a layer without a better one
for a fifth of the validations is left; mean of 5 layers. The lr falls by a cosine as many epochs long as
there are steps, so hardly (eva until March 2025; since then ``schedule`` third). Two classes share one output
(binary cross-entropy). A set without a validation part is validated on what is scored, as eva does: the
figure is then the best of many on the same tiles. With ``per_class`` 10 and 50 seeds it is PCam-10: every
tenth epoch validates, a tenth of them without one better by 1e-4 ends it. Otherwise than eva: images are
resized bicubically (eva: bilinear), and a class without a tile is left out of a mean (torchmetrics counts 0
where it is guessed).

Figures are means over seeds, with two intervals: of the mean over seeds (Student's
t), which holds only what the first weights and the order change, and a bootstrap over the groups of the
test set, which holds what other patients or slides would change.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pathprep.errors import UsageError
from pathprep.params.origin import AskedOrigin
from pathprep.params.settings import build
from pathtrain.data.whole_tiles import Tiles
from pathtrain.distributed.workers import pick_device
from pathtrain.errors import TrainError
from pathtrain.evaluate.baselines import Beside
from pathtrain.evaluate.statistics import Floats, Ints, describe, mean_interval
from pathtrain.evaluate.subject import vectors_of
from pathtrain.evaluate.tile_level import calibration
from pathtrain.evaluate.tile_level.labelled import (
    Set,
    comparable,
    encode_sets,
    hold_out,
    score,
    score_once,
    units_of,
)
from pathtrain.evaluate.tile_level.layers import train_layer
from pathtrain.evaluate.tile_level.sides import Sides, open_sides
from pathtrain.evaluate.units import Scored, Units
from pathtrain.features.encode import check_size, preparation
from pathtrain.params.encoding import How
from pathtrain.params.evaluation import LinearParams
from pathtrain.params.layers import LayerParams
from pathtrain.runs.finishing import aimed
from pathtrain.runs.model import LoadedModel, Model

SHORT, CROP = 256, 224  # EXAONEPath's resize and crop; other sizes keep their ratio
UNKNOWN = (
    "schedule",
    "first weights",
    "feature scale",
    "which 80 %",
    "order",
)  # what that paper does not say


def linear(
    model: Model,
    train: str | Path,
    test: str | Path | None = None,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    *,
    val: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Score a model by a linear layer on its features; see the module's text.

    Args:
        model: the encoder, or its run or exported folder.
        train: a dataset or a folder of labelled images; alone, the set's own split, or else a fifth of it is
            held out, by group.
        test: what is scored.
        labels: of datasets of slides; see pathtrain.data.tile_labels.
        label_origin: of GeoJSON that does not say its own, on slides with bounds: ``bounds`` as QuPath
            counts, ``slide`` as OpenSlide; ``auto`` asks.
        val: what validates, of eva's protocol; None: ``test``.
        settings: of LinearParams, by their flat names: ``protocol="eva", seeds=3, sgd_batch=64``.

    Returns:
        JSON-able: what was done, counts (``left_out_tiles`` are of the training set; ``group_kind`` is
        ``tile`` where no groups are known), ``differs`` (where it is not as the protocol has it), stain
        statuses, ``baselines`` (what each is, or why it is missing), and ``results``: per features accuracy,
        balanced accuracy (mean, per seed, interval over seeds, None for one seed, interval over groups),
        calibration (pathtrain.evaluate.tile_level.calibration); recalls, and the model's lead over them; see
        labelled.score. Of eva's, per seed ``best_step`` and ``validations``.

    Raises:
        UsageError: labels that do not fit, a group on both sides, a class only in test, or a setting.
        TrainError: a layer's weights are not finite any more.
        ModelError, CheckpointError, DatasetError, StainError: model, dataset or target cannot be read.
    """
    return linear_scored(model, train, test, labels, label_origin, val=val, **settings).result


def linear_scored(
    model: Model,
    train: str | Path,
    test: str | Path | None = None,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    *,
    val: str | Path | None = None,
    **settings: Any,
) -> Scored:
    """``linear``, with the units of its rows."""
    params = build(LinearParams, settings)
    model = aimed(vectors_of(model, params.how), params.target)
    layer, seed, how = params.layer, params.seed, prepared(model, params.how, params.protocol)
    if val is not None and not layer.validated:
        raise UsageError(f"`val` {val}: `protocol` {params.protocol} validates nothing; leave it out")
    sides = open_sides(train, val, test, labels, label_origin, model.target)
    beside = Beside.of(model, params.baselines, seed)
    parts = _parts(sides, encode_sets(beside, sides.sources, sides.labels, how), layer, params.whole, seed)
    device, scored = pick_device(how.device), sides.of(sides.scored)[0]
    grouped = scored.kind == "slide" or any(len(np.unique(s.group)) < len(s.group) for s in parts.sets)
    kind = scored.kind if grouped else "tile"
    bank, queries = parts.bank, parts.queries
    majority = int(np.bincount(bank.labels).argmax())
    rows, units = measured(parts, sides.labels.classes, layer, seed, device, scored.groups)
    result = {
        "task": "linear",
        "model": describe(model),
        "train": str(train),
        "val": None if val is None else str(val),
        "test": None if test is None else str(test),
        "published": params.protocol,
        "protocol": parts.said.format(kind=kind),
        "differs": _differs(params, how, parts),
        "settings": asdict(layer),
        "unknown": list(UNKNOWN) if params.protocol == "exaonepath" else [],
        **preparation(model, how),
        "precision": how.precision,
        "seed": seed,
        "classes": sides.labels.classes,
        "absent": sides.absent() if parts.own_test else [],
        "train_tiles": len(bank.labels),
        "left_out_tiles": parts.left,
        "val_tiles": None if parts.val is None else len(parts.val.labels),
        "test_tiles": len(queries.labels),
        "train_groups": len(np.unique(bank.group)),
        "groups": len(np.unique(queries.group)),
        "group_kind": kind,
        "stain": {str(tiles.path): stain_of(tiles) for tiles in sides.sources},
        "majority": float((queries.labels == majority).mean()),
        "baselines": beside.about,
        "results": rows,
    }
    return Scored(result, units)


@dataclass(frozen=True)
class Parts:
    """What is learnt from, what validates (None: nothing), and what is scored.

    Attributes:
        left: tiles of the training set that nothing is done with. said: how it is divided, in words, with
            ``{kind}`` for what a group is.
        own_test: whether what is scored was apart; ``same``: whether it validates too.
    """

    bank: Set
    val: Set | None
    queries: Set
    left: int
    said: str
    own_test: bool
    same: bool = False

    @property
    def sets(self) -> list[Set]:
        """All of them."""
        return [each for each in (self.bank, self.val, self.queries) if each is not None]


def _parts(sides: Sides, sets: list[Set], layer: LayerParams, whole: bool, seed: int) -> Parts:
    by, classes, first = dict(zip(sides.names, sets, strict=True)), sides.labels.classes, sides.sources[0]
    own = ", the set's own split" if sides.own else ""
    if len(by) == 1:
        bank, queries = hold_out(by["train"], classes, first, seed)
        said = "80:20 by {kind}"
        if not layer.validated:
            return Parts(bank, None, queries, 0, said, False)
        return Parts(bank, queries, queries, 0, f"{said}; the 20 % validate and are scored", False, True)
    bank, queries = by["train"], by[sides.scored]
    if layer.validated:
        val = by.get("val", queries)
        said = f"all of train to {sides.scored}, validated on {'val' if 'val' in by else sides.scored}{own}"
        return Parts(bank, val, queries, 0, said, True, val is queries)
    if whole:
        return Parts(bank, None, queries, 0, f"all of train to {sides.scored}{own}", True)
    bank, rest = hold_out(bank, classes, first, seed, instead="whole")
    said = f"80 % of train, by {{kind}}, to {sides.scored}{own}"
    return Parts(bank, None, queries, len(rest.labels), said, True)


def _differs(params: LinearParams, how: How, parts: Parts) -> list[str]:
    """Where an evaluation is not as its protocol has it."""
    found = params.options.differs(params.protocol)
    wanted = _short(how.size or 0, params.protocol)
    if how.short != wanted:
        found.append(f"resize {how.short}, not {wanted}")
    if params.protocol == "exaonepath" and params.whole and parts.own_test:
        found.append("trained on all, not on 80 %")
    if parts.same:
        found.append(
            "the tiles that choose the weights are those that are scored: the figure is the best of many"
        )
    return found


def _short(size: int, protocol: str) -> int:
    return size if protocol == "eva" else round(size * SHORT / CROP)


def prepared(model: LoadedModel, how: How, protocol: str = "exaonepath") -> How:
    """``how`` with crop and resize settled.

    Raises:
        UsageError: the crop does not fit the model.
    """
    size = check_size(model, how.size)
    return replace(how, size=size, short=_short(size, protocol) if how.short is None else how.short)


def stain_of(tiles: Tiles) -> dict[str, int] | str:
    """What was done to the tiles' stain: how many were normalised, by status; or why none was."""
    if tiles.normaliser is not None:
        return tiles.normaliser.statuses
    return (
        "as stored: the model was trained on plain tiles" if tiles.target is None else "stored at the target"
    )


def measured(
    parts: Parts,
    classes: list[str],
    settings: LayerParams,
    seed: int,
    device: torch.device,
    names: list[str] | None = None,
) -> tuple[list[dict[str, Any]], dict[tuple[str, str], Units]]:
    """Train on each kind of features and score it.

    Args:
        names: of the groups of what is scored, by number.

    Returns:
        ``results`` as ``linear`` returns them, and the units of their figures.
    """
    bank, queries = parts.bank, parts.queries
    guesses, logits, about = dict[str, Ints](), dict[str, Floats](), dict[str, dict[str, Any]]()
    for name in bank.features:
        found, steps, looks = [], [], []
        validating = _validating(parts, name)
        for (vectors, points), val in zip(comparable(bank, queries, name), validating, strict=True):
            layer = train_layer(vectors, bank.labels, len(classes), settings, seed, device, val)
            if not bool(torch.isfinite(layer.weight).all()):
                raise TrainError(f"the linear layer on {name} is not finite after training; lower `lr`")
            found.append(layer.logits(points))
            steps += layer.best
            looks += layer.validations
        logits[name] = np.stack(found)
        guesses[name] = np.asarray(logits[name].argmax(axis=3), dtype=np.int64)
        about[name] = {"best_step": steps, "validations": looks} if settings.validated else {}
    rows = [
        {**row, **_over_seeds(guesses[row["name"]], queries, len(classes)), **about[row["name"]]}
        for row in score(guesses, queries, classes, seed)
    ]
    shares = {name: calibration.softmax(each) for name, each in logits.items()}
    own, more = calibration.calibrated(shares, queries, seed, names)
    return calibration.joined(rows, own), {**units_of(guesses, queries, len(classes), names), **more}


def _validating(parts: Parts, name: str) -> list[tuple[Floats, Ints] | None]:
    """What validates, of each network, in the units of what is learnt from."""
    if parts.val is None:
        return [None] * len(parts.bank.features[name])
    return [(points, parts.val.labels) for _, points in comparable(parts.bank, parts.val, name)]


def evaluate(
    bank: Set, queries: Set, classes: list[str], settings: LayerParams, seed: int, device: torch.device
) -> list[dict[str, Any]]:
    """Train on one set and score on another, which validates too if something is to."""
    val = queries if settings.validated else None
    return measured(Parts(bank, val, queries, 0, "", True, val is not None), classes, settings, seed, device)[
        0
    ]


def _over_seeds(guesses: Ints, queries: Set, classes: int) -> dict[str, Any]:
    """Scores of each seed of the layers, and the interval of their mean, of guesses (N, S, M)."""
    each = [score_once(guesses[:, seed], queries, classes) for seed in range(guesses.shape[1])]
    found: dict[str, Any] = {}
    for key in ("accuracy", "balanced"):
        values = [one[key] for one in each]
        found |= {f"{key}_seeds": values, f"{key}_seeds_interval": mean_interval(values)}
    return found
