"""What is done to a tile between its JPEG and a training loop: its stain, and the caller's own transform."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pathprep import stain
from pathprep.dataset.schema import tile_key
from pathprep.errors import UsageError
from pathprep.slides.readers.base import Pixels
from pathprep.stain import IO, Jitter, StainFit, Target

Transform = Callable[[Any], Any]


@dataclass(frozen=True)
class Restain:
    """What is done to the stain of each tile when it is read.

    Attributes:
        target: stains to normalise to; None leaves each tile its own.
        jitter: random change of the stains, on top.
        fit: which stains a tile has: ``stored`` with it (`pathprep shard --stain fit`), or fitted on
            ``load``. Tiles without a fit stay as they are.

    Raises:
        UsageError: neither a target nor jitter, or another ``fit``.
    """

    target: Target | None = None
    jitter: Jitter | None = None
    fit: Literal["stored", "load"] = "stored"

    def __post_init__(self) -> None:
        if self.target is None and self.jitter is None:
            raise UsageError("`stain`: give a `target` to normalise to, or `jitter`, or both")
        if self.fit not in ("stored", "load"):
            raise UsageError(f"`fit` is {self.fit!r}; expected 'stored' or 'load'")

    def check(self, place: object, made: Mapping[str, Any], has_fits: bool) -> None:
        """Refuse what tiles cannot serve.

        Args:
            place: their folder or URL, for messages.
            made: ``params["stain"]`` of their dataset.
            has_fits: whether each is stored with its fit.

        Raises:
            UsageError: they are normalised already, or have no fits.
        """
        if self.target is not None and made["mode"] == "bake":
            raise UsageError(f"{place}: its tiles are already normalised; leave `target` out")
        if self.fit == "stored" and not has_fits:
            raise UsageError(
                f"{place}: holds no stain fits; use `fit` 'load', which fits each tile when it is read"
            )


@dataclass
class Prepare:
    """JPEG in, array out.

    Attributes:
        made: ``params["stain"]`` of the tiles' dataset.
        restain: None leaves the stain alone.
        transform: of the decoded array (H, W, 3) uint8; None leaves it.
        seed: of jitter; each process draws numbers of its own.
    """

    made: Mapping[str, Any]
    restain: Restain | None = None
    transform: Transform | None = None
    seed: int = 0
    _draws: tuple[int, np.random.Generator] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_draws": None}  # another process draws other numbers

    def __call__(self, pixels: Pixels, fit: StainFit | None) -> Any:
        """Change the stain of a tile (H, W, 3) uint8, and transform it."""
        if self.restain is not None:
            pixels = self._stained(self.restain, pixels, fit)
        return pixels if self.transform is None else self.transform(pixels)

    def _stained(self, how: Restain, pixels: Pixels, fit: StainFit | None) -> Pixels:
        io = self.made.get("io", IO)
        if how.fit == "load":
            options = {key: self.made[key] for key in ("keep", "alpha", "beta") if key in self.made}
            fit = stain.fit([pixels], io=io, threads=1, **options)
        if fit is None:
            return pixels
        matrix = stain.matrix(fit, how.target, how.jitter, None if how.jitter is None else self._generator())
        changed: Pixels = stain.apply([pixels], matrix, io=io, threads=1)[0]
        return changed

    def _generator(self) -> np.random.Generator:
        if self._draws is None or self._draws[0] != os.getpid():
            self._draws = os.getpid(), np.random.default_rng([self.seed, *_process()])
        return self._draws[1]


def key_of(row: Mapping[str, Any]) -> str:
    """The key of a tile's sample, from its slide, x and y: as in mixed shards."""
    return tile_key(row["slide"], row["x"], row["y"])


def sample_of(row: Mapping[str, Any], pixels: Any) -> dict[str, Any]:
    """A tile as a training loop sees it, but for its label."""
    return {"__key__": key_of(row), "jpg": pixels, **{name: row[name] for name in ("slide", "x", "y")}}


def _process() -> tuple[int, int]:
    """The rank, and a number of this worker, which torch's DataLoader draws anew for each epoch."""
    torch = sys.modules.get("torch")
    worker = torch.utils.data.get_worker_info() if torch is not None else None
    return int(os.environ.get("RANK", 0)), 0 if worker is None else int(worker.seed)
