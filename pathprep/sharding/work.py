"""What a slide's tiles need besides the slide: a form, and a place to go to."""

from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from pathprep.dataset.marker import Marker
from pathprep.params.shard import ShardParams
from pathprep.sharding.blocks import Pack
from pathprep.slides.find import SlideSource


class Sink(Protocol):
    """Where the tiles of a slide go; see dataset.writer.ShardWriter, which is one.

    Attributes:
        dropped: tiles that a quality filter dropped so far, by reason.
    """

    dropped: Counter[str]

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def add(self, tile: Any, row: Mapping[str, Any], /) -> None:
        """Take a tile, in the form of the work's ``pack``, and its row."""

    def drop(self, row: Mapping[str, Any], /) -> None:
        """Take the row of a tile that a quality filter dropped."""

    def stain(self) -> dict[str, int]:
        """Tiles by stain status."""

    def commit(self, marker: Marker, previews: Mapping[str, bytes], /) -> Marker:
        """All tiles are there; returns the marker with what the sink knows."""


class SlideWork(Protocol):
    """A slide whose tiles are to be made, and where they go.

    Attributes:
        threads: change the speed, never a pixel. pack: the form of tiles. previews: whether they are wanted.
    """

    @property
    def source(self) -> SlideSource: ...
    @property
    def params(self) -> ShardParams: ...
    @property
    def build_id(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def pack(self) -> Pack: ...
    @property
    def previews(self) -> bool: ...

    def sink(self) -> Sink:
        """Where its tiles go."""
