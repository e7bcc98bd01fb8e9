"""Slides as bags of tile vectors: CLAM (single and multi branch), ABMIL and their losses.

    h_i     = dropout(ReLU(W1 x_i))                                N x 512
    a_i     = w (dropout(tanh(V h_i)) * dropout(sigmoid(U h_i)))    gated attention, one column per branch
    A       = softmax over the tiles of a;  M_b = sum_i A_bi h_i
    logits  = W M (one branch), or w_c . M_c for class c (one branch per class)

Sources: Lu et al. 2021 (CLAM, arXiv 2004.09666) and its released code; Ilse et al. 2018 (ABMIL, arXiv
1802.04712); Berrada et al. 2018 (smooth top-1 SVM, arXiv 1802.07595). What is Exact (paper or released
code), Inferred or Unknown for the benchmarks of EXAONE Path 2.0:

    Exact       512 hidden, dropout .25, attention 256 (small) or 384 (big), k = 8, .7 bag + .3 instance,
                cross-entropy on bags; smooth top-1 SVM, alpha = tau = 1, on instances: the CLAM paper, and
                the commands that its authors publish. The released code's default is cross-entropy.
    Inferred    instances of classes that are not the slide's are used with three and more classes, not with
                two, as CLAM's own two tasks do; ABMIL is CLAM's network without the instance loss, so that
                only the loss differs between them.
    Unknown     which of them EXAONE Path 2.0 ran: its paper says CLAM.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pathtrain.losses.precision import wide

HIDDEN = 512
ATTENTION = {"small": 256, "big": 384}
DROPOUT = 0.25
K_SAMPLE = 8
BAG_WEIGHT = 0.7

InstanceLoss = Literal["svm", "ce"]
BagLoss = Callable[[Tensor, int], Tensor]  # of a bag's outputs (O,) and its label


@dataclass(frozen=True)
class MilConfig:
    """One model on bags.

    Attributes:
        method: ``clam-sb``, ``clam-mb`` or ``abmil``.
        size: ``small`` or ``big``, the width of the attention.
        instance_loss: ``svm`` (smooth top-1 SVM) or ``ce`` (cross-entropy); ABMIL has none.
        k_sample: tiles of highest, and of lowest, attention that the instance loss sees.
        dropout: after the first layer and inside the gates.
    """

    method: Literal["clam-sb", "clam-mb", "abmil"] = "clam-sb"
    size: Literal["small", "big"] = "small"
    instance_loss: InstanceLoss = "svm"
    k_sample: int = K_SAMPLE
    dropout: float = DROPOUT


class GatedAttention(nn.Module):
    """Attention scores before the softmax, (N, width) -> (N, branches)."""

    def __init__(self, width: int, hidden: int, branches: int, dropout: float) -> None:
        super().__init__()
        self.tanh = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Dropout(dropout))
        self.sigmoid = nn.Sequential(nn.Linear(width, hidden), nn.Sigmoid(), nn.Dropout(dropout))
        self.score = nn.Linear(hidden, branches)

    def forward(self, h: Tensor) -> Tensor:
        scores: Tensor = self.score(self.tanh(h) * self.sigmoid(h))
        return scores


class Mil(nn.Module):
    """A slide's classes from its tiles.

    Args:
        dim: D, numbers per tile.
        classes: C, at least 2.
        config: method and size.
    """

    def __init__(self, dim: int, classes: int, config: MilConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MilConfig()
        self.classes = classes
        self.branches = classes if config.method == "clam-mb" else 1
        self.embed = nn.Sequential(nn.Linear(dim, HIDDEN), nn.ReLU(), nn.Dropout(config.dropout))
        self.attention = GatedAttention(HIDDEN, ATTENTION[config.size], self.branches, config.dropout)
        # With a branch per class, row c sees M_c only: C linear layers to one number each
        self.classifier = nn.Linear(HIDDEN, classes)
        instances = 0 if config.method == "abmil" else classes
        self.instances = nn.ModuleList(nn.Linear(HIDDEN, 2) for _ in range(instances))

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score a slide.

        Args:
            tiles: (N, D), N at least 1.

        Returns:
            Logits (C,), attention before the softmax (branches, N), and the tiles' h (N, 512).
        """
        h = self.embed(tiles)
        scores = self.attention(h).T
        pooled = scores.softmax(dim=1) @ h
        if self.branches == 1:
            return self.classifier(pooled[0]), scores, h
        return (self.classifier.weight * pooled).sum(dim=1) + self.classifier.bias, scores, h

    def loss(self, tiles: Tensor, label: int, of: BagLoss | None = None) -> Tensor:
        """What one training step minimises: .7 bag + .3 instance; the bag's alone for ABMIL.

        Args:
            tiles: (N, D).
            label: the slide's class; without classes, what ``of`` takes.
            of: the bag's loss; None: cross-entropy.
        """
        logits, scores, h = self(tiles)
        bag = (of or bag_loss)(logits, label)
        if not self.instances:
            return bag
        return BAG_WEIGHT * bag + (1 - BAG_WEIGHT) * self.instance_loss(scores, h, label)

    def instance_loss(self, scores: Tensor, h: Tensor, label: int) -> Tensor:
        """Tiles of high attention are of the slide's class, those of low attention are not.

        A slide with fewer than 2 k tiles gives half of them (rounded down) to each side, so that no tile is
        both; one with a single tile has no pair to tell apart. The released code stops at fewer than k
        tiles, and uses tiles twice below 2 k.

        Args:
            scores: (branches, N) attention.
            h: (N, 512).
            label: the slide's class.

        Returns:
            A scalar; 0 if there is no tile to learn from.
        """
        count, k = len(h), self.config.k_sample
        total = h.new_zeros(())
        others = self.classes > 2
        for number, classifier in enumerate(self.instances):
            own = scores[number if self.branches > 1 else 0]
            if number == label:
                taken = min(k, count // 2)
                if taken == 0:
                    continue
                rows = torch.cat([own.topk(taken).indices, own.topk(taken, largest=False).indices])
                targets = torch.arange(2 * taken, device=h.device) < taken
            elif others:
                rows = own.topk(min(k, count)).indices
                targets = torch.zeros(len(rows), dtype=torch.bool, device=h.device)
            else:
                continue
            logits = classifier(h[rows])
            lossy = smooth_top1_svm if self.config.instance_loss == "svm" else functional.cross_entropy
            total = total + lossy(wide(logits), targets.long())
        return total / self.classes if others else total


def bag_loss(logits: Tensor, label: int) -> Tensor:
    """Cross-entropy of one slide: logits (C,)."""
    return -wide(logits).log_softmax(dim=0)[label]


def smooth_top1_svm(logits: Tensor, targets: Tensor, alpha: float = 1.0, tau: float = 1.0) -> Tensor:
    """Multi-class SVM with its maximum smoothed: tau log sum_j exp((z_j + alpha [j != y] - z_y) / tau).

    The mean over rows. Berrada et al. 2018, equation 6 with k = 1. Their code switches to the hard maximum
    where the two largest scores are more than tau log 1000 apart; both differ there by less than 0.001 tau.

    Args:
        logits: (n, C).
        targets: (n,) int64.
        alpha: margin.
        tau: temperature; towards 0 it is the hard SVM.
    """
    margin = alpha * (1 - functional.one_hot(targets, logits.shape[1]).to(logits.dtype))
    scores = logits + margin - logits.gather(1, targets[:, None])
    return (tau * (scores / tau).logsumexp(dim=1)).mean()
