"""The one place that decides how many micrometres a slide's pixel is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pathprep.errors import MppError
from pathprep.params.shard import MPP_RANGE
from pathprep.slides.mpp.statement import Statement

# Scanners report pixel pitches that differ by well under a per cent between x and y; more is another geometry
ANISOTROPY = 0.01
# Places in one file round differently, or are nominal (0.25) and measured (0.2525)
AGREEMENT = 0.05
DEFAULT_MPP = "--default-mpp"  # as the source of a resolution
OVERRIDE = "CSV column"
FIX = "state the true MPP in the mpp column of a CSV of slides"


class Mpp(NamedTuple):
    """Micrometres per level-0 pixel and where the figure comes from."""

    value: float
    source: str


@dataclass(frozen=True)
class MppRules:
    """How a slide's resolution is settled.

    Attributes:
        override: replaces what the file says (a CSV column), for this slide.
        default: used only where the file says nothing, or something without a unit that may be just this.
        low, high: a figure outside is an error.
    """

    override: float | None = None
    default: float | None = None
    low: float = MPP_RANGE[0]
    high: float = MPP_RANGE[1]


def settle(path: Path, stated: Sequence[Statement], rules: MppRules, magnification: str = "") -> Mpp:
    """The override, else what the file states, else the default.

    Args:
        path: of the slide, for messages.
        stated: by the file, the most trusted first. magnification: of the objective, for messages.

    Raises:
        MppError: missing without a default, not understood, contradictory, absurd, or not the same along x
            and y.
    """
    mpp = _settled(path, stated, rules, magnification)
    if not rules.low <= mpp.value <= rules.high:
        quote = next((f": {each.quote}" for each in stated if each.source == mpp.source), "")
        raise MppError(
            f"{path}: {mpp.value:g} MPP ({mpp.source}{quote}) is outside {rules.low:g} to {rules.high:g}; "
            f"{FIX}, or widen `min_mpp`/`max_mpp`"
        )
    return mpp


def _settled(path: Path, stated: Sequence[Statement], rules: MppRules, magnification: str) -> Mpp:
    if rules.override is not None:
        return Mpp(rules.override, OVERRIDE)
    understood = [each for each in stated if each.understood]
    best = [each for each in understood if not each.weak] or understood
    if best:
        first = best[0]
        against = [each for each in best[1:] if not _agree(first, each)]
        if against:
            all_of = "; ".join(map(str, [first, *against]))
            raise MppError(f"{path}: the file contradicts itself about its MPP ({all_of}); {FIX}")
        x, y = first.x or 0.0, first.y or 0.0
        if abs(x - y) > ANISOTROPY * max(x, y):
            raise MppError(
                f"{path}: pixels are not square ({x:g} x {y:g} MPP, {first.source}: {first.quote}); {FIX}"
            )
        return Mpp((x + y) / 2, first.source)
    wrong = [each for each in stated if each.problem]
    if wrong and not all(_confirms(rules.default, each) for each in wrong):
        all_of = "; ".join(map(str, wrong))
        raise MppError(f"{path}: the file states an MPP that is not understood ({all_of}); {FIX}")
    if rules.default is not None:
        return Mpp(rules.default, DEFAULT_MPP)
    hint = f" ({magnification}x is a magnification, from which it does not follow)" if magnification else ""
    raise MppError(
        f"{path}: the file does not state its MPP{hint}; "
        "give `default_mpp` 0.25 (for example), or an mpp column in a CSV of slides"
    )


def _confirms(default: float | None, unsure: Statement) -> bool:
    """Whether the default is what a statement means that has but lost its unit."""
    return default is not None and any(abs(default - each) <= AGREEMENT * each for each in unsure.guesses)


def _agree(one: Statement, other: Statement) -> bool:
    return all(
        a is not None and b is not None and abs(a - b) <= AGREEMENT * max(a, b)
        for a, b in ((one.x, other.x), (one.y, other.y))
    )


def others(stated: Sequence[Statement], taken: Mpp) -> list[str]:
    """What else the file states, in words, and what was made of it."""
    first = next((each for each in stated if each.source == taken.source and each.understood), None)
    return [str(each) for each in stated if each is not first]
