"""What a scanner, a laboratory or a file format may do to a tile, in drawn perturbations of known strength.

    stain   amounts of haematoxylin and eosin times 1 + s z        s: RMS share over the two stains
    shift   an amount of each added, glass too                     s: RMS optical density (natural logarithm)
    cast    both stain vectors turned                              degrees, each vector by exactly so many
    light   levels times 1 + s or 1 - s                            share
    gamma   levels to the power exp(s) or exp(-s)                  s: natural logarithm of gamma
    blur    Gaussian                                               um, its sigma
    jpeg    encoded and decoded, 4:2:0                             quality, 1 to 100: less is stronger
    mpp     the centre of the tile as if scanned at another MPP    factor: 0.8 finer, 1.25 coarser
    noise   normal, each pixel and channel by itself               grey levels, its SD

The direction of a change (z, signs, where vectors turn) is drawn once per tile and kind, so the strengths of
a kind lie on one line from the tile. Stains are the tile's own (Macenko), or the field's reference where a
tile has no fit of its own. A coarser scan shows more tissue than a tile holds, so ``mpp`` compares centres:
80 % of the side stands for the tile, 64 % for it at 0.8, all of it at 1.25. Everything happens on the tile as
it is stored, before a model's own stain normalisation and resizing, which see the changed tile as they would
see another scan.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pathprep import stain
from pathprep.images import jpeg
from pathprep.kernels import blur_cpu, resize_cpu
from pathprep.stain import NUMBERS, Jitter, StainFit, Status, Target
from pathtrain.evaluate.statistics import Doubles
from pathtrain.images import Pixels
from pathtrain.params.perturbation import STRENGTHS

CENTRE = 0.8  # share of a tile's side that stands for it beside other MPPs
UNITS = {
    "stain": "share of each stain's amount (RMS)",
    "shift": "optical density of each stain (RMS)",
    "cast": "degrees of both stain vectors",
    "light": "share of the light",
    "gamma": "natural logarithm of gamma",
    "blur": "um (sigma)",
    "jpeg": "quality",
    "mpp": "factor of the MPP",
    "noise": "grey levels (SD)",
}
STAINS = ("stain", "shift", "cast")


@dataclass(frozen=True)
class Given:
    """What a change may need.

    Attributes:
        rng: of the tile and the kind: the same for every strength.
        fit: the tile's stains, of one tile; None where no kind needs them.
        mpp: of the tile as it is stored; None where no kind needs it.
    """

    rng: np.random.Generator
    fit: StainFit | None
    mpp: float | None


def perturbed(pixels: Pixels, kind: str, strength: float, given: Given) -> Pixels:
    """A changed tile; itself at strength 0.

    Args:
        pixels: (H, W, 3) uint8. kind: of STRENGTHS.
    """
    if strength == 0:
        return pixels
    return _CHANGES[kind](pixels, strength, given)


def centre(pixels: Pixels, share: float) -> Pixels:
    """The middle of a tile, a share of its sides."""
    height, width = (max(round(side * share), 1) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def stains_of(pixels: Pixels) -> tuple[StainFit, bool]:
    """The stains of a tile, and whether they are its own; else the reference's."""
    fit = stain.fit([pixels], threads=1)
    if fit.status[0] == Status.FITTED:
        return fit, True
    target = Target.default()
    fitted = np.array([Status.FITTED], dtype=np.uint8)
    return StainFit(target.he[None], target.max_c[None], fit.tissue_pixels, fitted), False


def _stained(
    pixels: Pixels,
    jitter: Jitter,
    numbers: Doubles,
    fit: StainFit | None,
) -> Pixels:
    assert fit is not None
    found: list[Pixels] = stain.apply([pixels], stain.matrix(fit, None, jitter, numbers[None]), threads=1)
    return found[0]


def _pair(rng: np.random.Generator) -> Doubles:
    """(2,) a random direction; the mean of the squares is 1."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.asarray(np.sqrt(2) * np.array([np.cos(angle), np.sin(angle)]))


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _stain(pixels: Pixels, strength: float, given: Given) -> Pixels:
    numbers = np.zeros(NUMBERS)
    numbers[:2] = _pair(given.rng)
    return _stained(pixels, Jitter(concentration=strength), numbers, given.fit)


def _shift(pixels: Pixels, strength: float, given: Given) -> Pixels:
    numbers = np.zeros(NUMBERS)
    numbers[6:] = _pair(given.rng)
    return _stained(pixels, Jitter(concentration=0, shift=strength), numbers, given.fit)


def _cast(pixels: Pixels, strength: float, given: Given) -> Pixels:
    numbers = np.zeros(NUMBERS)
    numbers[2:6] = [_sign(given.rng) for _ in range(4)]  # a corner: as far as the angle says
    return _stained(pixels, Jitter(concentration=0, angle=strength), numbers, given.fit)


def _light(pixels: Pixels, strength: float, given: Given) -> Pixels:
    return _mapped(pixels, np.arange(256.0) * (1 + _sign(given.rng) * strength))


def _gamma(pixels: Pixels, strength: float, given: Given) -> Pixels:
    power = float(np.exp(_sign(given.rng) * strength))
    return _mapped(pixels, np.asarray(255 * (np.arange(256.0) / 255) ** power))


def _mapped(pixels: Pixels, levels: Doubles) -> Pixels:
    """Each level replaced by that of a table (256,)."""
    table = np.clip(np.round(levels), 0, 255).astype(np.uint8)
    found: Pixels = table[pixels]
    return found


def _blur(pixels: Pixels, strength: float, given: Given) -> Pixels:
    assert given.mpp is not None
    height, width = pixels.shape[:2]
    planes = np.zeros((3, resize_cpu.padded(height), resize_cpu.padded(width)), np.float32)
    planes[:, :height, :width] = pixels.transpose(2, 0, 1)
    out = np.empty_like(planes)
    blur_cpu.apply(planes, height, width, strength / given.mpp, out)
    return np.ascontiguousarray(out[:, :height, :width].transpose(1, 2, 0).astype(np.uint8))


def _jpeg(pixels: Pixels, strength: float, given: Given) -> Pixels:
    return jpeg.decode(jpeg.encode(np.ascontiguousarray(pixels), round(strength), "420"))


def _mpp(pixels: Pixels, strength: float, given: Given) -> Pixels:
    return centre(pixels, CENTRE * strength)


def _noise(pixels: Pixels, strength: float, given: Given) -> Pixels:
    found = pixels + strength * given.rng.standard_normal(pixels.shape)
    return np.clip(np.round(found), 0, 255).astype(np.uint8)


_CHANGES: dict[str, Callable[[Pixels, float, Given], Pixels]] = {
    "stain": _stain,
    "shift": _shift,
    "cast": _cast,
    "light": _light,
    "gamma": _gamma,
    "blur": _blur,
    "jpeg": _jpeg,
    "mpp": _mpp,
    "noise": _noise,
}
assert _CHANGES.keys() == UNITS.keys() == STRENGTHS.keys()
