"""Quality filters: which tiles are dropped, and why; each is counted once, under the first rule it fails."""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError

# The tiling kernel's figures, in its order; their columns in the index have the same names
FIGURES = ("saturation", "white", "focus", "stained", "hsv", "pen")

Figures = npt.NDArray[np.float32]


class Rule(NamedTuple):
    """A filter: ``reason`` is what a dropped tile is counted under.

    Attributes:
        figure: what is compared, one of FIGURES. parameter: its threshold in QcParams.
        least: whether the threshold is the least allowed value, or the largest.
    """

    reason: str
    figure: str
    parameter: str
    least: bool

    @property
    def option(self) -> str:
        """The command-line option of `pathprep shard`."""
        return f"--{self.parameter.replace('_', '-')}"


RULES = (
    Rule("blurred", "focus", "min_focus", True),
    Rule("pen", "pen", "max_pen", False),
    Rule("white", "white", "max_white", False),
    Rule("hsv", "hsv", "min_hsv", True),
)
REASONS = tuple(rule.reason for rule in RULES)


@dataclass(frozen=True)
class QcParams:
    """Thresholds of the filters; None leaves one out. A tile at its threshold stays.

    Attributes:
        min_focus: variance of the Laplacian, grey levels squared; it depends on scanner and MPP.
        max_pen: share of pixels with the colour of a pen's ink.
        max_white: share of white pixels.
        min_hsv: share of pixels with the hue, saturation and value that Virchow and Midnight ask of 0.6.
    """

    min_focus: float | None = None
    max_pen: float | None = None
    max_white: float | None = None
    min_hsv: float | None = None

    def __post_init__(self) -> None:
        for rule in RULES:
            value = getattr(self, rule.parameter)
            if value is None:
                continue
            if rule.figure == "focus":
                if not 0 <= value < float("inf"):
                    raise UsageError(f"{rule.option} is a variance: 0 or more")
            elif not 0 <= value <= 1:
                raise UsageError(f"{rule.option} is a share: 0 to 1")

    def as_dict(self) -> dict[str, float]:
        """The thresholds that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def rules(self) -> list[tuple[Rule, float]]:
        """The filters that are on, in the order in which they count, with their thresholds."""
        set_ = self.as_dict()
        return [(rule, set_[rule.parameter]) for rule in RULES if rule.parameter in set_]


def verdicts(figures: Figures, params: QcParams) -> npt.NDArray[np.int8]:
    """The first rule that each tile fails.

    Args:
        figures: (T, 6) of the tiling kernel.

    Returns:
        (T,) place in RULES, -1 for tiles that pass.
    """
    found = np.full(len(figures), -1, np.int8)
    for rule, threshold in reversed(params.rules()):
        values, limit = figures[:, FIGURES.index(rule.figure)], np.float32(threshold)
        # what is not a number fails
        fails = ~(values >= limit) if rule.least else ~(values <= limit)
        found[fails] = RULES.index(rule)
    return found


def in_words(values: dict[str, float]) -> str:
    """The thresholds (``QcParams.as_dict``) as a person would say them."""
    words = {
        "min_focus": "a focus below {:g}",
        "max_pen": "more than {:.3g} % pen",
        "max_white": "more than {:.3g} % white",
        "min_hsv": "less than {:.3g} % of its pixels in the HSV box",
    }
    said = [
        f"{words[name].format(value if name == 'min_focus' else 100 * value)} (--{name.replace('_', '-')})"
        for name, value in values.items()
    ]
    return f"A tile is dropped for {', or '.join(said)}." if said else "No tile was dropped for its quality."
