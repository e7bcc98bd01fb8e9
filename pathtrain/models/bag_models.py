"""Bag models by their names: CLAM and ABMIL (mil), TransMIL, DSMIL, the MLP on means, and eva's ABMIL.

All give outputs (O,), attention before the softmax (branches, N), or None, and what they make of the tiles;
and ``loss``, what one step minimises.

DSMIL: Li, Li and Eliceiri 2021 (arXiv 2011.08939) and its released code. Exact: a score of each class from
each tile; queries of 128 (two layers, ReLU and tanh), the values are the features as they are; each class
attends to its highest tile; a convolution over all classes' vectors; half of the loss is of the highest
tile of each class. Inferred: cross-entropy over classes, where the code has one binary loss per class.

eva's ABMIL (kaiko-ai/eva, Exact): a linear layer to 128, gated attention of 128, an MLP of 128 and 64, no
dropout.
"""

from typing import Literal, Protocol, cast

from torch import Tensor, nn

from pathtrain.models.mil import DROPOUT, HIDDEN, BagLoss, GatedAttention, Mil, MilConfig, bag_loss
from pathtrain.models.ordinal import Thresholds
from pathtrain.models.transmil import TransMil

Network = Literal["clam-sb", "clam-mb", "abmil", "transmil", "dsmil", "mean-mlp", "eva-abmil"]
QUERY = 128  # of DSMIL
EVA = 128
EVA_MLP = (128, 64)


class BagModel(Protocol):
    """What trains and scores slides."""

    def __call__(self, tiles: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Outputs, attention, and what it makes of the tiles."""

    def loss(self, tiles: Tensor, label: int, of: BagLoss | None = None) -> Tensor:
        """What one step minimises."""


class DsMil(nn.Module):
    """Two streams: the highest tile of each class, and attention to what is like it.

    Args:
        dim: D.
        outputs: O.
    """

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.instance = nn.Linear(dim, outputs)
        self.query = nn.Sequential(nn.Linear(dim, QUERY), nn.ReLU(), nn.Linear(QUERY, QUERY), nn.Tanh())
        self.bag = nn.Conv1d(outputs, outputs, kernel_size=dim)

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs of the bag (O,), attention (O, N), and scores of the tiles (N, O)."""
        scores = self.instance(tiles)
        best = tiles[scores.argmax(dim=0)]
        attention = (self.query(tiles) @ self.query(best).T / QUERY**0.5).T
        outputs = self.bag((attention.softmax(dim=1) @ tiles)[None]).view(-1)
        return outputs, attention, scores

    def loss(self, tiles: Tensor, label: int, of: BagLoss | None = None) -> Tensor:
        """Half of the bag, half of each class's highest tile."""
        outputs, _, scores = self(tiles)
        own = of or bag_loss
        return 0.5 * own(outputs, label) + 0.5 * own(scores.max(dim=0).values, label)


class MeanMlp(nn.Module):
    """An MLP on the mean of the tiles, as wide as CLAM's first layer; Inferred, nobody's in particular."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, outputs)
        )

    def forward(self, tiles: Tensor) -> tuple[Tensor, None, Tensor]:
        """Outputs (O,); no tile counts more than another."""
        return self.layers(tiles.mean(dim=0)), None, tiles

    def loss(self, tiles: Tensor, label: int, of: BagLoss | None = None) -> Tensor:
        """The bag's."""
        return (of or bag_loss)(self(tiles)[0], label)


class EvaAbmil(nn.Module):
    """ABMIL as eva has it."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Linear(dim, EVA)
        self.attention = GatedAttention(EVA, EVA, 1, 0.0)
        first, second = EVA_MLP
        self.classifier = nn.Sequential(
            nn.Linear(EVA, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, outputs)
        )

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs (O,), attention (1, N), the tiles (N, 128)."""
        h = self.embed(tiles)
        scores = self.attention(h).T
        return self.classifier((scores.softmax(dim=1) @ h)[0]), scores, h

    def loss(self, tiles: Tensor, label: int, of: BagLoss | None = None) -> Tensor:
        """The bag's."""
        return (of or bag_loss)(self(tiles)[0], label)


class Ordered(nn.Module):
    """A bag model with one output, and CORAL's thresholds on it.

    Args:
        network: with one output.
        classes: C.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network, self.thresholds = network, Thresholds(classes)

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Logits of being above each threshold (C - 1,), and as the network."""
        outputs, attention, h = self.network(tiles)
        return self.thresholds(outputs), attention, h

    def loss(self, tiles: Tensor, label: int, of: BagLoss) -> Tensor:
        """As the network's, of the thresholds' logits."""
        network = cast(BagModel, self.network)
        return network.loss(tiles, label, lambda outputs, own: of(self.thresholds(outputs), own))


def bag_model(network: Network, dim: int, outputs: int, config: MilConfig) -> nn.Module:
    """A BagModel.

    Args:
        network: its name.
        dim: D.
        outputs: O.
        config: of CLAM and ABMIL.
    """
    found: dict[str, type[nn.Module]] = {
        "transmil": TransMil, "dsmil": DsMil, "mean-mlp": MeanMlp, "eva-abmil": EvaAbmil,
    }  # fmt: skip
    return found[network](dim, outputs) if network in found else Mil(dim, outputs, config)
