"""The stains to normalise to: the field's reference, or those of an image, kept as JSON."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pathprep.errors import StainError, UsageError
from pathprep.kernels.macenko_reference import ALPHA, BETA, IO
from pathprep.params.stain import REFERENCE
from pathprep.stain.arrays import Array, to_numpy
from pathprep.stain.fits import FITTED, StainFit, fit
from pathprep.storage import atomic, regular
from pathprep.storage.seals import is_whole, sealed

VERSION, SEALED_SINCE = 2, 2  # of the file; what is older, or written by hand, has no seal

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Target:
    """The stains to normalise to.

    Attributes:
        he: (3, 2) float64, as in ``StainFit``; numpy, also if it is made from a tensor or a CuPy array.
        max_c: (2,) float64, likewise.
        name: for people; it plays no part in the result.
    """

    he: Floats
    max_c: Floats
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "he", to_numpy(self.he))  # the class is frozen
        object.__setattr__(self, "max_c", to_numpy(self.max_c))

    @classmethod
    def default(cls) -> Self:
        """The reference that the field's implementations share."""
        return cls(np.array(REFERENCE["he"]), np.array(REFERENCE["max_c"]), "reference")

    @classmethod
    def fit(
        cls,
        image: Array,
        name: str = "image",
        *,
        keep: str = "all",
        alpha: float = ALPHA,
        beta: float = BETA,
        io: float = IO,
    ) -> Self:
        """The stains of an image (H, W, 3) uint8 of any library; its size and the options as in ``fit``.

        Raises:
            StainError: it holds no plausible pair of stains.
            ValueError: as ``fit`` does.
        """
        found = fit([image], keep=keep, alpha=alpha, beta=beta, io=io)
        if int(found.status[0]) != FITTED:
            raise StainError(
                f"{name}: no pair of stains in it ({int(found.tissue_pixels[0])} tissue pixels of "
                f"{image.shape[0] * image.shape[1]}); choose an H&E image that tissue fills"
            )
        return cls(found.he[0], found.max_c[0], name)

    @classmethod
    def of(cls, pooled: StainFit, name: str) -> Self:
        """A slide's pooled fit (N = 1) as a target.

        Raises:
            StainError: none of the slide's tiles was fitted.
        """
        if int(pooled.status[0]) != FITTED:
            raise StainError(f"{name}: no tile of it holds a pair of stains; choose an H&E slide")
        return cls(pooled.he[0], pooled.max_c[0], name)

    def as_params(self) -> dict[str, Any]:
        """JSON-able values that determine the result, for the build id; the name is not among them."""
        return {"he": self.he.tolist(), "max_c": self.max_c.tolist()}

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        content = {"format": "pathprep-target", "version": VERSION, "name": self.name, **self.as_params()}
        atomic.write_alone(path, atomic.as_json(sealed(content)))

    @classmethod
    def given(cls, target: "Target | PurePath | str | None") -> "Target | None":
        """What a caller gave: a target as it is, or the file of one, loaded; None stays None.

        Raises:
            UsageError: the file cannot be read, or does not hold a usable target.
        """
        if target is None or isinstance(target, Target):
            return target
        try:
            return cls.load(Path(target))
        except StainError as error:
            raise UsageError(f"`target`: {error}") from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            StainError: the file cannot be read, or does not hold a usable target.
        """
        try:
            value = json.loads(regular.read(path))
            if not is_whole(value, SEALED_SINCE):
                raise StainError(
                    f"{path}: damaged or edited (its seal differs); make it again: `pathprep target IMAGE`"
                )
            he = np.array(value["he"], np.float64)
            max_c = np.array(value["max_c"], np.float64)
            name = str(value["name"])
        except OSError as error:
            raise StainError(f"{path}: {error.strerror}; make one with `pathprep target IMAGE`") from None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise StainError(
                f"{path}: not a stain target; expected JSON with name, he (3 x 2) and max_c (2)"
            ) from None
        if he.shape != (3, 2) or max_c.shape != (2,):
            raise StainError(f"{path}: he is {he.shape} and max_c {max_c.shape}; expected (3, 2) and (2,)")
        if not (np.isfinite(he).all() and np.isfinite(max_c).all() and (max_c > 0).all()):
            raise StainError(f"{path}: he must be finite and max_c positive; fit the target again")
        return cls(he, max_c, name)
