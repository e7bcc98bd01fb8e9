"""Linear evaluation: one linear layer on frozen features, as the EXAONEPath 1.0 paper trains it.

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

All seeds are trained at once: their layers are slices of one tensor, their losses are added, so each is
what it would be alone. Figures are means over seeds, with two intervals: of the mean over seeds (Student's
t), which holds only what the first weights and the order change, and a bootstrap over the groups of the
test set, which holds what other patients or slides would change.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pathprep.params.origin import AskedOrigin
from pathprep.params.settings import build
from pathtrain.data.tile_labels import read_labels
from pathtrain.data.whole_tiles import Tiles, open_tiles
from pathtrain.distributed.workers import pick_device
from pathtrain.errors import TrainError
from pathtrain.evaluate.baselines import Beside
from pathtrain.evaluate.statistics import Floats, Ints, describe, mean_interval
from pathtrain.evaluate.subject import vectors_of
from pathtrain.evaluate.tile_level.labelled import (
    Set,
    check_split,
    comparable,
    encode_sets,
    hold_out,
    score,
    score_once,
)
from pathtrain.features.encode import check_size, preparation
from pathtrain.losses.precision import wide
from pathtrain.params.encoding import How
from pathtrain.params.evaluation import LayerParams, LinearParams
from pathtrain.runs.finishing import aimed
from pathtrain.runs.model import LoadedModel, Model

SHORT, CROP = 256, 224  # the paper's resize and crop; other sizes keep their ratio
UNKNOWN = ("schedule", "first weights", "feature scale", "which 80 %", "order")  # what the paper does not say
BLOCK = 8192  # tiles classified at a time


@dataclass(frozen=True)
class Layer:
    """Linear layers of S seeds: weight (S, D, C) and bias (S, 1, C)."""

    weight: torch.Tensor
    bias: torch.Tensor

    def classes(self, features: Floats) -> Ints:
        """(S, M) class numbers of features (M, D)."""
        parts = []
        for start in range(0, len(features), BLOCK):
            points = torch.from_numpy(features[start : start + BLOCK]).to(self.weight.device)
            parts.append((points @ self.weight + self.bias).argmax(dim=2).cpu().numpy())
        return np.concatenate(parts, axis=1)


def linear(
    model: Model,
    train: str | Path,
    test: str | Path | None = None,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    **settings: Any,
) -> dict[str, Any]:
    """Score a model by a linear layer on its features; see the module's text.

    Args:
        model: the encoder, or its run or exported folder.
        train: a dataset or a folder of labelled images.
        test: another; None holds a fifth of ``train`` out, by group.
        labels: of datasets of slides; see pathtrain.data.tile_labels.
        label_origin: of GeoJSON that does not say its own, on slides with bounds: ``bounds`` as QuPath
            counts, ``slide`` as OpenSlide; ``auto`` asks.
        settings: of LinearParams, by their flat names: ``target="reference", seeds=3, sgd_batch=64``.

    Returns:
        JSON-able: what was done, counts (``left_out_tiles`` are of the training set; ``group_kind`` is
        ``tile`` where no groups are known), stain statuses, ``baselines`` (what each is, or why it is
        missing), and ``results``: per features accuracy and balanced accuracy: mean, per seed, interval over
        seeds (None for one seed), interval over groups; recalls, and the model's lead over them; see
        labelled.score.

    Raises:
        UsageError: labels that do not fit, a group on both sides, a class only in test, or a setting.
        TrainError: a layer's weights are not finite any more.
        ModelError, CheckpointError, DatasetError, StainError: model, dataset or target cannot be read.
    """
    params = build(LinearParams, settings)
    model = aimed(vectors_of(model, params.how), params.target)
    layer, seed, how = params.layer, params.seed, prepared(model, params.how)
    sources = [open_tiles(Path(path), model.target) for path in (train, test) if path is not None]
    found = read_labels(sources, None if labels is None else Path(labels), label_origin)
    if test is not None:
        check_split(sources, found)
    beside = Beside.of(model, params.baselines, seed)
    sets = encode_sets(beside, sources, found, how)
    left = 0
    if test is None:
        bank, queries = hold_out(sets[0], found.classes, sources[0], seed)
    else:
        bank, queries = sets
        if not params.whole:
            bank, rest = hold_out(bank, found.classes, sources[0], seed, instead="whole")
            left = len(rest.labels)
    grouped = sources[-1].kind == "slide" or any(len(np.unique(s.group)) < len(s.group) for s in sets)
    kind = sources[-1].kind if grouped else "tile"
    majority = int(np.bincount(bank.labels).argmax())
    device = pick_device(how.device)
    return {
        "task": "linear",
        "model": describe(model),
        "train": str(train),
        "test": None if test is None else str(test),
        "protocol": _protocol(test is not None, params.whole, kind),
        "settings": asdict(layer),
        "unknown": list(UNKNOWN),
        **preparation(model, how),
        "precision": how.precision,
        "seed": seed,
        "classes": found.classes,
        "train_tiles": len(bank.labels),
        "left_out_tiles": left,
        "test_tiles": len(queries.labels),
        "train_groups": len(np.unique(bank.group)),
        "groups": len(np.unique(queries.group)),
        "group_kind": kind,
        "stain": {str(tiles.path): stain_of(tiles) for tiles in sources},
        "majority": float((queries.labels == majority).mean()),
        "baselines": beside.about,
        "results": evaluate(bank, queries, found.classes, layer, seed, device),
    }


def _protocol(tested: bool, whole: bool, kind: str) -> str:
    if not tested:
        return f"80:20 by {kind}"
    return "all of train to test" if whole else f"80 % of train, by {kind}, to test"


def prepared(model: LoadedModel, how: How) -> How:
    """``how`` with crop and resize settled.

    Raises:
        UsageError: the crop does not fit the model.
    """
    size = check_size(model, how.size)
    return replace(how, size=size, short=round(size * SHORT / CROP) if how.short is None else how.short)


def stain_of(tiles: Tiles) -> dict[str, int] | str:
    """What was done to the tiles' stain: how many were normalised, by status; or why none was."""
    if tiles.normaliser is not None:
        return tiles.normaliser.statuses
    return (
        "as stored: the model was trained on plain tiles" if tiles.target is None else "stored at the target"
    )


def evaluate(
    bank: Set, queries: Set, classes: list[str], settings: LayerParams, seed: int, device: torch.device
) -> list[dict[str, Any]]:
    """Train on each kind of features and score it; ``results`` as ``linear`` returns them."""
    guesses = {}
    for name in bank.features:
        found = []
        for vectors, points in comparable(bank, queries, name):
            layer = train_layer(vectors, bank.labels, len(classes), settings, seed, device)
            if not bool(torch.isfinite(layer.weight).all()):
                raise TrainError(f"the linear layer on {name} is not finite after training; lower `lr`")
            found.append(layer.classes(points))
        guesses[name] = np.stack(found)
    return [
        {**row, **_over_seeds(guesses[row["name"]], queries, len(classes))}
        for row in score(guesses, queries, classes, seed)
    ]


def _over_seeds(guesses: Ints, queries: Set, classes: int) -> dict[str, Any]:
    """Scores of each seed of the layers, and the interval of their mean, of guesses (N, S, M)."""
    each = [score_once(guesses[:, seed], queries, classes) for seed in range(guesses.shape[1])]
    found: dict[str, Any] = {}
    for key in ("accuracy", "balanced"):
        values = [one[key] for one in each]
        found |= {f"{key}_seeds": values, f"{key}_seeds_interval": mean_interval(values)}
    return found


def train_layer(
    features: Floats, labels: Ints, classes: int, settings: LayerParams, seed: int, device: torch.device
) -> Layer:
    """Cross-entropy by SGD; seed number s of the layers is ``seed`` + s.

    Args:
        features: (N, D).
        labels: (N,) class numbers below ``classes``.
    """
    count, dim = features.shape
    seeds = range(seed, seed + settings.seeds)
    first = [
        torch.empty(dim, classes).normal_(0, 0.01, generator=torch.Generator().manual_seed(s)) for s in seeds
    ]
    weight = torch.stack(first).to(device).requires_grad_()
    bias = torch.zeros(len(seeds), 1, classes, device=device, requires_grad=True)
    points, goals = torch.from_numpy(features).to(device), torch.from_numpy(labels).to(device)
    orders = torch.from_numpy(np.stack([_order(count, settings, s) for s in seeds])).to(device)
    optimizer = torch.optim.SGD(
        [weight, bias], lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    steps = settings.iterations
    for step in range(steps):
        if settings.schedule == "cosine":
            optimizer.param_groups[0]["lr"] = settings.lr * (1 + np.cos(np.pi * step / steps)) / 2
        rows = orders[:, step]
        logits = torch.baddbmm(bias, points[rows], weight)
        loss = functional.cross_entropy(wide(logits).flatten(0, 1), goals[rows].flatten()) * len(seeds)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return Layer(weight.detach(), bias.detach())


def _order(count: int, settings: LayerParams, seed: int) -> Ints:
    """(iterations, batch) row numbers: permutations of all rows, one after the other."""
    rng = np.random.default_rng(seed)
    needed = settings.iterations * settings.batch
    rounds = [rng.permutation(count) for _ in range(-(-needed // count))]
    return np.concatenate(rounds)[:needed].reshape(settings.iterations, settings.batch)
