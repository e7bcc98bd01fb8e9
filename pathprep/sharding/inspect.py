"""What a slide is and what `pathprep shard` would make of it, without writing anything."""

from pathlib import Path
from typing import Any

from pathprep.errors import MppError
from pathprep.params.running import AnyPath
from pathprep.params.shard import MPP, ShardParams
from pathprep.sharding.survey import survey
from pathprep.slides.slide import Slide


def inspect(slide: AnyPath, *, mpp: float = MPP, **settings: Any) -> dict[str, Any]:
    """Tell what a slide is, and how many tiles `pathprep shard` would make of it.

    Args:
        slide: the file.
        mpp: micrometres per pixel of the tiles.
        settings: as of ``pathprep.shard``, such as ``tile=512, mode="resize"``.

    Returns:
        ``path``, ``bytes``, ``reader``, ``vendor``, ``width`` and ``height`` in level-0 pixels, ``levels``;
        ``mpp`` and ``mpp_source``; ``tile_side`` in level-0 pixels, ``grid`` (columns, rows), ``tissue``
        (share of the slide) and ``tiles``. An MPP that cannot be used does not raise: it stands in
        ``problem``, with the fix, and what depends on it is None.

    Raises:
        UsageError: a setting is wrong.
        UnreadableSlide: the slide cannot be opened or read.
    """
    path, params = Path(slide), ShardParams.of(mpp=mpp, **settings)
    with Slide(path, params.reader) as image:
        facts: dict[str, Any] = {
            "path": str(path),
            "bytes": path.stat().st_size,
            "reader": image.reader,
            "vendor": image.vendor,
            "width": image.width,
            "height": image.height,
            "levels": [{"width": w, "height": h, "downsample": d} for w, h, d in image.levels],
            **dict.fromkeys(("mpp", "mpp_source", "tile_side", "grid", "tissue", "tiles", "problem")),
        }
        try:
            found = survey(image, params)
        except MppError as error:
            return facts | {"problem": str(error)}
        return facts | {
            "mpp": found.mpp.value,
            "mpp_source": found.mpp.source,
            "tile_side": found.plan.side,
            "grid": [found.plan.columns, found.plan.rows],
            "tissue": float(found.mask.mean()),
            "tiles": len(found.kept),
        }
