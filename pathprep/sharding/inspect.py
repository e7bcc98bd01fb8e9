"""What a slide is and what `pathprep shard` would make of it, without writing anything."""

from pathlib import Path
from typing import Any

from pathprep.errors import MppError
from pathprep.params.shard import ShardParams
from pathprep.sharding.survey import survey
from pathprep.slides.slide import Slide


def inspect(path: Path, params: ShardParams) -> dict[str, Any]:
    """Facts of one slide: reader, size, levels, MPP with its source, tissue, tiles.

    An MPP that cannot be used does not raise: it stands in ``problem``, with the fix, and what
    depends on it is None.

    Raises:
        UnreadableSlide: the slide cannot be opened or read.
    """
    with Slide(path, params.reader) as slide:
        facts: dict[str, Any] = {
            "path": str(path),
            "bytes": path.stat().st_size,
            "reader": slide.reader,
            "vendor": slide.vendor,
            "width": slide.width,
            "height": slide.height,
            "levels": [{"width": w, "height": h, "downsample": d} for w, h, d in slide.levels],
            **dict.fromkeys(("mpp", "mpp_source", "tile_side", "grid", "tissue", "tiles", "problem")),
        }
        try:
            found = survey(slide, params)
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
