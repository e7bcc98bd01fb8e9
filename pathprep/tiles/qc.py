"""Which tiles the quality filters drop, and why."""

import numpy as np
import numpy.typing as npt

from pathprep.params.quality import RULES, QcParams

# The tiling kernel's figures, in its order; their columns in the index have the same names
FIGURES = ("saturation", "white", "focus", "stained", "hsv", "pen")

Figures = npt.NDArray[np.float32]


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
