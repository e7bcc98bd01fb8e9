"""What a slide is and what `pathprep shard` would make of it, without writing anything."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pathprep.errors import MppError, SlideError
from pathprep.params.running import AnyPath
from pathprep.params.shard import MPP, ShardParams
from pathprep.pseudonyms.key import take
from pathprep.pseudonyms.slides import Pseudonyms
from pathprep.sharding.pipeline import plan_tiles
from pathprep.sharding.survey import resolution, survey
from pathprep.slides import facts, miniature
from pathprep.slides.facts import Facts
from pathprep.slides.find import SlideSource, one
from pathprep.slides.identity import file_size
from pathprep.slides.mpp.settle import Mpp
from pathprep.slides.own_names import printable, safe_name
from pathprep.slides.readers.base import Pixels
from pathprep.slides.slide import Slide
from pathprep.slides.tissue import Mask

# Longer side of the overview of a slide whose MPP is not known, in pixels
OVERVIEW = 1024


@dataclass(frozen=True)
class Inspection:
    """A slide that was looked at.

    Attributes:
        facts: as ``inspect`` returns them, but for the picture.
        overview: (h, w, 3) uint8. mask: (h, w) bool, tissue; None if it could not be found.
    """

    facts: dict[str, Any]
    overview: Pixels
    mask: Mask | None

    def as_dict(self) -> dict[str, Any]:
        """With the picture."""
        return self.facts | {"picture": miniature.data_uri(self.overview, self.mask)}


def inspect(
    slide: AnyPath, *, mpp: float = MPP, pseudonymise: AnyPath | None = None, **settings: Any
) -> dict[str, Any]:
    """Tell what a slide is, and how many tiles `pathprep shard` would make of it.

    Args:
        slide: the file, or a folder that holds one slide.
        mpp: micrometres per pixel of the tiles.
        pseudonymise: key file, as of ``pathprep.shard``: its names and paths are not told. None is made.
        settings: as of ``pathprep.shard``, such as ``tile=512, mode="resize"``.

    Returns:
        ``path``, ``bytes``, ``reader``, ``vendor``, ``width`` and ``height`` in level-0 pixels, ``levels``;
        ``mpp`` and ``mpp_source``; ``tile_side`` in level-0 pixels, ``grid`` (columns, rows), ``tissue``
        (share of the slide), ``tiles``, and ``little_tissue``, ``no_tissue`` and ``small_pieces``, cells that
        become none; ``too_small``: number and square micrometres of the pieces of tissue that were dropped
        for their size; ``notes``: what it looks like that other slides do not, codes of slides.unlike. An
        MPP that cannot be used does not raise: it stands in ``problem``, with the fix, and what depends on it
        is None. ``decided``: MPP, levels, colour, origin and name, each with ``value``, ``source`` and
        ``others``; ``stated_mpp``: all that the file says about its MPP. ``picture``: the slide in a few
        pixels, tissue outlined, a data URI of at most 8 kB.

    Raises:
        UsageError: a setting is wrong.
        UnreadableSlide: the slide cannot be opened or read.
    """
    return look(slide, mpp=mpp, pseudonymise=pseudonymise, **settings).as_dict()


def look(
    slide: AnyPath, *, mpp: float = MPP, pseudonymise: AnyPath | None = None, **settings: Any
) -> Inspection:
    """What ``inspect`` tells, with the overview. Args, and errors: as of ``inspect``."""
    if pseudonymise is None:
        return _look(Path(slide), mpp, settings)
    named = Pseudonyms(take(Path(pseudonymise), dry=True))
    alias = named.alias(one(Path(slide)))
    try:
        seen = _look(Path(slide), mpp, settings)
    except SlideError as error:
        raise type(error)(alias.said(str(error))) from None
    return replace(seen, facts=alias.all_said(seen.facts))


def _look(path: Path, mpp: float, settings: dict[str, Any]) -> Inspection:
    params, source = ShardParams.of(mpp=mpp, **settings), one(path)
    path = source.path
    with Slide(path, params.reader) as image:
        found: dict[str, Any] = {
            "path": str(path),
            "bytes": file_size(path),
            "reader": image.reader,
            "vendor": image.vendor,
            "width": image.width,
            "height": image.height,
            "levels": [{"width": w, "height": h, "downsample": d} for w, h, d in image.levels],
            **dict.fromkeys(("mpp", "mpp_source", "tile_side", "grid", "tissue", "tiles")),
            **dict.fromkeys(("little_tissue", "no_tissue", "small_pieces", "too_small", "notes", "problem")),
            "stated_mpp": [asdict(each) for each in image.stated_mpp],
        }
        settled: Mpp | None = None
        try:
            settled = resolution(image, params)
            seen = survey(image, params)
        except MppError as error:
            found |= {"problem": str(error), "decided": _decided(image, settled, source).as_dict()}
            if settled is not None:  # stated, but coarser than what is asked for
                found |= {"mpp": settled.value, "mpp_source": settled.source}
            longest = max(image.width, image.height)
            return Inspection(found, image.overview(max(1.0, longest / OVERVIEW)), None)
        _, counts = plan_tiles(seen, params, path.stem)
        found |= {
            "mpp": seen.mpp.value,
            "mpp_source": seen.mpp.source,
            "tile_side": seen.plan.side,
            "grid": [seen.plan.columns, seen.plan.rows],
            "tissue": float(seen.mask.mean()),
            "tiles": len(seen.kept),
            **{each: counts[each] for each in ("little_tissue", "no_tissue", "small_pieces")},
            "too_small": list(seen.too_small),
            "notes": list(seen.notes),
            "decided": _decided(image, settled, source).as_dict(),
        }
        return Inspection(found, seen.overview, seen.mask)


def _decided(slide: Slide, mpp: Mpp | None, source: SlideSource) -> Facts:
    own = source.own_name
    return facts.decide(slide, mpp, safe_name(own), printable(own))
