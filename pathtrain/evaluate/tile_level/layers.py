"""Linear layers on frozen features, several at once, by SGD or AdamW, with the best of their validations.

    logits z = x W + b;  dL/dz = (softmax(z) - onehot(y)) / B, or (sigmoid(z) - y) / B of a single output
    dL/dW = x' dL/dz,  dL/db = 1' dL/dz

The layers of all seeds are slices of one tensor and take each step together; their losses do not meet, so
each is what it would be alone. The gradient is written out: autograd takes several times as long for layers
this small. A column of ones in the features stands for the bias, so that one tensor holds all. Layers are
held as (S, C, D + 1) and logits as (S, C, B): with so few columns, products the other way round take a CPU
four times as long (bench/bench_linear.py).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from pathprep.errors import UsageError
from pathtrain.evaluate.statistics import Floats, Ints
from pathtrain.params.layers import LayerParams

BLOCK = 8192  # tiles classified at a time
BETAS, EPS = (0.9, 0.999), 1e-8  # torch's for AdamW
Batch = tuple[torch.Tensor, torch.Tensor]  # points and goals
SHORT_EPOCHS = 5  # with a third of the lr, of the schedule ``third``


@dataclass(frozen=True)
class Layer:
    """Linear layers of S seeds: weight (S, D, C) and bias (S, 1, C); C is 1 of two classes by one output.

    Attributes:
        best: per seed the step of the validation that its weights are of, 0 where none was; of the last
            weights empty. validations: per seed, how many it had.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    best: list[int] = field(default_factory=list)
    validations: list[int] = field(default_factory=list)

    def logits(self, features: Floats) -> Floats:
        """(S, M, C) of features (M, D); a single output z is given as the two logits 0 and z."""
        parts, (seeds, dim, outputs) = [], self.weight.shape
        rows = self.weight.transpose(1, 2).reshape(-1, dim)
        for start in range(0, len(features), BLOCK):
            points = torch.from_numpy(features[start : start + BLOCK]).to(self.weight.device)
            with torch.autocast(points.device.type, enabled=False):
                logits = (rows @ points.T).view(seeds, outputs, -1).transpose(1, 2) + self.bias
            parts.append(logits.cpu().numpy())
        found: Floats = np.concatenate(parts, axis=1)
        if found.shape[2] > 1:
            return found
        return np.concatenate([np.zeros_like(found), found], axis=2)

    def classes(self, features: Floats) -> Ints:
        """(S, M) class numbers of features (M, D)."""
        return np.asarray(self.logits(features).argmax(axis=2), dtype=np.int64)


def train_layer(
    features: Floats,
    labels: Ints,
    classes: int,
    settings: LayerParams,
    seed: int,
    device: torch.device,
    val: tuple[Floats, Ints] | None = None,
) -> Layer:
    """Cross-entropy by SGD or AdamW; seed number s of the layers is ``seed`` + s.

    Args:
        features: (N, D).
        labels: (N,) class numbers below ``classes``.
        val: features (V, D) and class numbers of what validates, if ``settings.validated``.

    Raises:
        UsageError: a class has fewer tiles than ``per_class``.
    """
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        return _Training(features, labels, classes, settings, seed, device, val).run()


class _Training:
    """The state of the layers of S seeds; those that are done leave ``self.active``."""

    def __init__(
        self,
        features: Floats,
        labels: Ints,
        classes: int,
        settings: LayerParams,
        seed: int,
        device: torch.device,
        val: tuple[Floats, Ints] | None,
    ) -> None:
        self.settings, self.device = settings, device
        seeds = range(seed, seed + settings.seeds)
        self.single = settings.single and classes == 2
        self.points = _with_ones(features, device)
        goals = labels[:, None] if self.single else np.eye(classes)[labels]
        self.goals = torch.from_numpy(goals.astype(np.float32)).to(device)
        outputs = 1 if self.single else classes
        first = [_first(features.shape[1], outputs, settings, s).T for s in seeds]
        self.layers = torch.stack(first).contiguous().to(device)
        self.moments = [torch.zeros_like(self.layers) for _ in range(1 + (settings.optimizer == "adamw"))]
        self.steps = 0
        self.active = torch.arange(len(seeds), device=device)
        self.rows = [_few(labels, classes, settings.per_class, s) for s in seeds]
        self.draws = [np.random.default_rng(s) for s in seeds]
        self.val = (
            None if val is None or not settings.validated else _Validation(*val, classes, self, len(seeds))
        )

    def run(self) -> Layer:
        settings = self.settings
        for epoch, batches in enumerate(self._epochs()):
            for points, goals in batches:
                self._step(points, goals, self._lr(epoch))
            whole = self.steps < settings.iterations or self.steps % self._batches() == 0
            if self.val is not None and whole and (epoch + 1) % settings.every == 0:
                self.val.look(self)
                if not len(self.active):
                    break
        if self.val is None:
            return _layer(self.layers)
        return self.val.chosen(self)

    def _batches(self) -> int:
        return math.ceil(len(self.rows[0]) / self.settings.batch)

    def _epochs(self) -> Iterator[Iterable[Batch]]:
        """The batches of each epoch, of the seeds that are active."""
        settings = self.settings
        if not settings.validated:
            orders = [_order(rows, settings, draw) for rows, draw in zip(self.rows, self.draws, strict=True)]
            every = torch.from_numpy(np.stack(orders)).to(self.device)
            for step in range(settings.iterations):
                yield (self._gathered(every[:, step]),)
            return
        alone = len(self.rows[0]) <= settings.batch  # one batch holds all: its order does not matter
        kept: Batch | None = None
        while self.steps < settings.iterations:
            if alone:
                if kept is None or len(kept[0]) != len(self.active):
                    every = torch.from_numpy(np.stack(self.rows)).to(self.device)
                    kept = self._gathered(every[self.active])
                yield (kept,)
                continue
            now = [self.draws[s].permutation(self.rows[s]) for s in self.active.tolist()]
            order = torch.from_numpy(np.stack(now)).to(self.device)
            parts = torch.split(order, settings.batch, dim=1)[: settings.iterations - self.steps]
            yield map(self._gathered, parts)

    def _gathered(self, rows: torch.Tensor) -> Batch:
        """Points (S, B, D + 1) and goals (S, C, B) of row numbers (S, B)."""
        flat = rows.flatten()
        points = self.points.index_select(0, flat).view(*rows.shape, -1)
        return points, self.goals.index_select(0, flat).view(*rows.shape, -1).transpose(1, 2)

    def _lr(self, epoch: int) -> float:
        settings = self.settings
        if settings.schedule == "cosine":
            return settings.lr * (1 + math.cos(math.pi * self.steps / settings.iterations)) / 2
        if settings.schedule == "constant":
            return settings.lr
        if not settings.validated:
            epoch = self.steps * settings.batch // len(self.rows[0])
        if settings.schedule == "third":
            return settings.lr / 3 if epoch < SHORT_EPOCHS else settings.lr
        return settings.lr * (1 + math.cos(math.pi * epoch / settings.iterations)) / 2

    def _step(self, points: torch.Tensor, goals: torch.Tensor, lr: float) -> None:
        logits = torch.bmm(self.layers, points.transpose(1, 2))
        found = logits.sigmoid_() if self.single else logits.softmax(dim=1)
        grad = torch.bmm(found.sub_(goals).div_(points.shape[1]), points)
        self.steps += 1
        decay = self.settings.weight_decay
        if self.settings.optimizer == "sgd":
            (speed,) = self.moments
            if decay:
                grad.add_(self.layers, alpha=decay)
            speed.mul_(self.settings.momentum).add_(grad)
            self.layers.add_(speed, alpha=-lr)
            return
        mean, square = self.moments
        self.layers.mul_(1 - lr * decay)
        mean.lerp_(grad, 1 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(grad, grad, value=1 - BETAS[1])
        root = square.sqrt().div_(math.sqrt(1 - BETAS[1] ** self.steps)).add_(EPS)
        self.layers.addcdiv_(mean, root, value=-lr / (1 - BETAS[0] ** self.steps))

    def leave(self, done: torch.Tensor) -> None:
        """Train those of the active seeds (S,) no further that are done."""
        going = ~done
        self.active, self.layers = self.active[going], self.layers[going]
        self.moments = [each[going] for each in self.moments]


class _Validation:
    """The best weights of each seed so far, by balanced accuracy, and for how long there was none better."""

    def __init__(self, features: Floats, labels: Ints, classes: int, training: _Training, seeds: int) -> None:
        device = training.device
        self.points = _with_ones(features, device)
        self.labels = torch.from_numpy(labels).to(device)
        counts = torch.bincount(self.labels, minlength=classes)
        there = torch.nn.functional.one_hot(self.labels, classes)[:, counts > 0].double()
        self.shares = there / counts[counts > 0] / there.shape[1]  # mean recall = right @ shares
        self.best = torch.full((seeds,), -1.0, dtype=torch.float64, device=device)
        self.stop = self.best.clone()
        self.waited = torch.zeros(seeds, dtype=torch.int64, device=device)
        self.at, self.looks = self.waited.clone(), self.waited.clone()
        self.layers = training.layers.clone()
        self.patience = training.settings.waits(len(training.rows[0]))
        self.delta = training.settings.delta

    def look(self, training: _Training) -> None:
        """Validate the active seeds; those that waited for too long leave."""
        active, layers = training.active, training.layers
        logits = (layers.flatten(0, 1) @ self.points.T).view(*layers.shape[:2], -1)
        guesses = (logits[:, 0] > 0).long() if training.single else logits.argmax(dim=1)
        now = ((guesses == self.labels).double() @ self.shares).sum(dim=1)
        now = now.round(
            decimals=12
        )  # the same recalls of other classes are equal, not a better one by rounding
        better = now > self.best[active]
        rows = active[better]
        self.best[rows], self.at[rows], self.layers[rows] = now[better], training.steps, layers[better]
        gained = now - self.delta > self.stop[active]
        self.stop[active[gained]] = now[gained]
        self.waited[active] = torch.where(gained, 0, self.waited[active] + 1)
        self.looks[active] += 1
        done = self.waited[active] >= self.patience
        if bool(done.any()):
            training.leave(done)

    def chosen(self, training: _Training) -> Layer:
        """The best weights of each seed; of those that were never validated the last."""
        none = self.looks[training.active] == 0
        self.layers[training.active[none]] = training.layers[none]
        return _layer(self.layers, self.at.tolist(), self.looks.tolist())


def _layer(layers: torch.Tensor, best: list[int] | None = None, looks: list[int] | None = None) -> Layer:
    columns = layers.transpose(1, 2).contiguous()
    return Layer(columns[:, :-1], columns[:, -1:], best or [], looks or [])


def _with_ones(features: Floats, device: torch.device) -> torch.Tensor:
    points = torch.from_numpy(features).to(device, torch.float32)
    return torch.cat([points, points.new_ones(len(points), 1)], dim=1)


def _first(dim: int, outputs: int, settings: LayerParams, seed: int) -> torch.Tensor:
    """(D + 1, C) weights and bias to start from, drawn on the CPU: the same for every device."""
    generator = torch.Generator().manual_seed(seed)
    if settings.first == "uniform":
        return torch.empty(dim + 1, outputs).uniform_(-1, 1, generator=generator) / math.sqrt(dim)
    weight = torch.empty(dim, outputs).normal_(0, 0.01, generator=generator)
    return torch.cat([weight, weight.new_zeros(1, outputs)])


def _few(labels: Ints, classes: int, per_class: int | None, seed: int) -> Ints:
    """Rows that a layer is trained on: all, or so many of each class."""
    if per_class is None:
        return np.arange(len(labels))
    counts = np.bincount(labels, minlength=classes)
    if counts.min() < per_class:
        raise UsageError(
            f"`per_class` {per_class}: a class has {counts.min()} tiles to learn from; give at most that"
        )
    draw = np.random.default_rng([seed, per_class])
    return np.concatenate(
        [draw.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in range(classes)]
    )


def _order(rows: Ints, settings: LayerParams, draw: np.random.Generator) -> Ints:
    """(iterations, batch) row numbers: permutations of all rows, one after the other."""
    needed = settings.iterations * settings.batch
    rounds = [draw.permutation(rows) for _ in range(-(-needed // len(rows)))]
    return np.concatenate(rounds)[:needed].reshape(settings.iterations, settings.batch)
