"""A stain target from a picture, or from a slide: the pooled fit of a random choice of its tiles."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tifffile
from PIL import Image

from pathprep import stain
from pathprep.errors import StainError, UsageError
from pathprep.images import limits, pictures
from pathprep.kernels.macenko_reference import MAX_PIXELS
from pathprep.kernels.tiling_cpu import cut
from pathprep.params.running import AnyPath
from pathprep.params.settings import check
from pathprep.params.shard import MPP_RANGE, ShardParams
from pathprep.params.stain import StainPixels
from pathprep.sharding.survey import survey
from pathprep.slides import grid
from pathprep.slides.endings import EXTENSIONS
from pathprep.slides.mpp import tags
from pathprep.slides.slide import Slide
from pathprep.stain import ALPHA, BETA, IO, StainFit, Status, Target
from pathprep.storage import regular

# On a TCGA slide of 613 tiles the pooled vectors of so many were within 0.3 degrees of those of all
TILES = 200


@dataclass(frozen=True)
class FitOptions:
    """Options of pathprep.stain.fit.

    Raises:
        UsageError: one is outside its range.
    """

    keep: str = "all"
    alpha: float = ALPHA
    beta: float = BETA
    io: float = IO

    def __post_init__(self) -> None:
        try:
            stain.fit([], **asdict(self))
        except ValueError as error:
            name, _, said = str(error).partition(" ")
            raise UsageError(f"`{name}` {said}") from None


@dataclass(frozen=True)
class FittedTarget:
    """A target, and of a slide how many tiles were looked at, and how many of them had a fit."""

    target: Target
    tiles: int | None = None
    fitted: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {**self.target.as_params(), "tiles": self.tiles, "fitted": self.fitted}


def fit_target(
    image: AnyPath,
    out: AnyPath | None = None,
    *,
    keep: StainPixels = "all",
    alpha: float = ALPHA,
    beta: float = BETA,
    io: float = IO,
    tiles: int | None = None,
    **settings: Any,
) -> FittedTarget:
    """Fit a stain target on a picture or a slide, for ``pathprep.shard(target=...)``.

    A slide's tissue is cut into tiles as ``pathprep.shard`` does it; some are fitted, and the fits pooled.

    Args:
        image: a picture of stained tissue, or a slide.
        out: JSON file that the target goes to; None to write none.
        keep: fit on pixels with ``all`` (canonical) or ``any`` channels above ``beta``.
        alpha: percent of pixels beyond each stain vector, 0 to 50.
        beta: optical density above which a pixel is stained.
        io: transmitted light, grey levels, 1 to 256.
        tiles: of a slide, at most so many at random; None for 200.
        settings: of a slide, as of ``pathprep.shard``: ``mpp``, ``seed``, ``default_mpp``, ``reader`` ...

    Raises:
        UsageError: no such file, a wrong argument, or one of a slide with a picture.
        SlideError: the slide cannot be used.
        StainError: there is no plausible pair of stains in it.
    """
    path, how = Path(image), FitOptions(keep, alpha, beta, io)
    check({"`tiles` must be at least 1": tiles is None or tiles >= 1})
    if is_slide(path):
        made = fit_slide(path, ShardParams.of(**settings), how, tiles or TILES)
    elif settings or tiles is not None:
        raise UsageError(
            f"{path}: a picture, not a slide; `tiles`, `seed`, `mpp`, `default_mpp`, `min_mpp`, `max_mpp` "
            "and `reader` are for slides"
        )
    else:
        made = FittedTarget(fit_picture(path, how))
    if out is not None:
        made.target.save(Path(out))
    return made


def is_slide(path: Path) -> bool:
    """Whether a file is read as a slide rather than as one picture.

    A slide has a suffix that only slides have, or is a TIFF that is tiled, is a pyramid, or states a
    plausible MPP. Other files are pictures if Pillow knows them, else slides: then the slide reader says
    what is wrong.

    Raises:
        UsageError: no such file.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix in EXTENSIONS - {".tif", ".tiff"}:
        return True
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            return bool(page.is_tiled or page.subifds or len(tiff.series[0].levels) > 1 or _has_mpp(page))
    except Exception:  # of a damaged file it raises what it happens to; a reader says what is wrong with it
        pass
    if pictures.is_picture(path):
        return False
    return suffix not in Image.registered_extensions() or suffix in EXTENSIONS


def _has_mpp(page: tifffile.TiffPage) -> bool:
    """Whether resolution tags give a microscope's pixel size, not a printer's dots per inch."""
    low, high = MPP_RANGE
    stated = tags.statements(*(page.tags.valueof(code) for code in (282, 283, 296)))
    return any(each.x is not None and low <= each.x <= high for each in stated)


def fit_picture(path: Path, how: FitOptions) -> Target:
    """Fit a target on a plain image.

    Raises:
        UsageError: it cannot be read (see pathprep.images.pictures), or it is too large.
        StainError: it holds no plausible pair of stains.
    """
    try:
        pixels = pictures.decode(regular.read(path, limits.MOST_BYTES), _check_size)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a readable picture ({limits.reason(error)})") from None
    return Target.fit(pixels, path.name, **asdict(how))


def _check_size(width: int, height: int) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"{width} x {height} pixels; a picture has at most {MAX_PIXELS} (4096 x 4096): crop it"
        )


def fit_slide(path: Path, params: ShardParams, how: FitOptions, tiles: int = TILES) -> FittedTarget:
    """Fit a target on a slide.

    Its tissue is found and cut into tiles as `pathprep shard` does it; a random choice of the tiles is
    fitted, and the fits are pooled.

    Args:
        path: of the slide.
        params: grid, tissue, MPP rules, reader and seed; its stain plays no part.
        how: options of the fits.
        tiles: at most so many.

    Raises:
        SlideError: the slide cannot be used.
        StainError: it has no tile with enough tissue, or none of them has a plausible fit.
    """
    fits = []
    with Slide(path, params.reader) as slide:
        found = survey(slide, params)
        plan = found.plan
        chosen = grid.choose(found.kept, tiles, params.seed, path.name)
        if not len(chosen):
            raise StainError(
                f"{path}: no tile of {plan.side} px has {params.min_tissue:.0%} tissue; "
                "look at it with `pathprep inspect`, or fit the target on a picture of tissue"
            )
        for block in grid.blocks(plan, chosen):
            pixels = slide.read(plan.level, block.x, block.y, block.width, block.height)
            cells, _ = cut(pixels, block.origins, plan.side // plan.downsample, plan.stored)
            fits.append(stain.fit(cells, **asdict(how)))
    every = StainFit.join(fits)
    fitted = int((every.status == Status.FITTED).sum())
    return FittedTarget(Target.of(stain.pool(every), path.name), len(chosen), fitted)
