"""Whether tiles are what a model was trained on: the MPP that it sees of them, once they are resized for it.

A tile of 256 px at 0.5 MPP that is resized to 224 px is seen at 0.57. That is how such tiles are given to
encoders of 224 px everywhere, so up to that is the same MPP; below, 10 % are. Finer tiles that are resized to
what the model wants are as good as tiles at its MPP. What is seen at another MPP is refused: an encoder's
features mean something else there, and nothing else would tell.
"""

import logging
from pathlib import PurePath

from pathprep.dataset.marker import SlideMarker
from pathprep.errors import UsageError
from pathprep.words import command
from pathtrain.data.whole_tiles import DatasetTiles, Tiles
from pathtrain.params.encoding import How
from pathtrain.runs.model import LoadedModel

log = logging.getLogger(__name__)

FINER, COARSER = 0.9, 256 / 224 * 1.005  # what is seen, by what is wanted
SAME = 0.1  # share by which MPPs may differ and be called the same
_said: set[str] = set()  # a line each, once


def seen(model: LoadedModel, tile: int, mpp: float, how: How) -> float:
    """Micrometres that a pixel of the model's images covers.

    Args:
        tile: side of the tiles, pixels at ``mpp``; ``native`` ones too, whose own pixels may be others.
    """
    return tile * mpp / (how.short or how.size or model.size)


def check_mpp(
    model: LoadedModel, tile: int, mpp: float, how: How, place: PurePath | str, out: str
) -> float | None:
    """What the model sees of tiles, if it is known what it was trained at.

    Args:
        tile: side of the tiles, pixels at ``mpp``.
        place: of the tiles, for messages. out: a name for other tiles that the message proposes.

    Returns:
        MPP; None of a model that does not say its own.

    Raises:
        UsageError: it is another MPP than the model's, and ``any_mpp`` is not given; it names the command
            that makes tiles for it.
    """
    if not model.mpps:
        return None
    found = seen(model, tile, mpp, how)
    near = min(model.mpps, key=lambda each: abs(found / each - 1))
    trained = ", ".join(f"{each:g}" for each in model.mpps)
    if FINER <= found / near <= COARSER:
        if abs(mpp / near - 1) > SAME:
            side = how.short or how.size or model.size
            _say(
                f"{place}: tiles of {tile} px at {mpp:g} MPP are resized to {side} px: {found:.3g} MPP, "
                f"for {model.name}"
            )
        return found
    what = (
        f"{place}: {model.name} would see its tiles ({tile} px at {mpp:g} MPP) at {found:.3g} MPP; it was "
        f"trained at {trained}"
    )
    if how.any_mpp:
        _say(f"{what}; `any_mpp` takes them all the same")
        return found
    raise UsageError(f"{what}. {_way_out(model, tile, mpp, how, out)}, or `any_mpp`")


def check_tiles(model: LoadedModel, tiles: Tiles, how: How) -> dict[str, float]:
    """``check_mpp`` of a dataset's tiles: slide -> MPP that is seen; empty of tiles or models that say none.

    Raises:
        UsageError: as ``check_mpp``, at several resolutions of the first slide that is at another.
    """
    if not isinstance(tiles, DatasetTiles) or tiles.dataset.kind != "slides" or not model.mpps:
        return {}
    params, found = tiles.dataset.params, {}
    several = isinstance(params["mpp"], list)
    for slide in tiles.slides:
        marker = tiles.dataset.marker(slide) if several else None
        mpp = marker.target_mpp if isinstance(marker, SlideMarker) else None
        mpp = mpp or (params["mpp"][0] if several else params["mpp"])
        place = f"{tiles.path}: {slide}" if several else tiles.path
        seen_at = check_mpp(model, params["tile"], mpp, how, place, str(tiles.path))
        assert seen_at is not None
        found[slide] = seen_at
        if not several:
            return dict.fromkeys(tiles.slides, seen_at)
    return found


def _way_out(model: LoadedModel, tile: int, mpp: float, how: How, out: str) -> str:
    """The command that makes tiles for the model; of a transformer also the size at which these would do."""
    side, wanted = how.short or how.size or model.size, model.mpps[0]
    new = f"{out.rstrip('/')}-mpp{wanted:g}-tile{side}"
    typed = command("pathprep shard", "SLIDES", "--out", new, "--mpp", f"{wanted:g}", "--tile", side)
    text = f"Make tiles for it: {typed}"
    size = round(tile * mpp / wanted / model.patch) * model.patch
    if not model.fixed and how.short is None and model.size < size <= 4 * model.size:
        text += f", or let it see these larger: `size` {size}"
    return text


def _say(text: str) -> None:
    if text not in _said:
        _said.add(text)
        log.info("%s", text)
