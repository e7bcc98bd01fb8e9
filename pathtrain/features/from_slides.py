"""Features straight from slides: processes read tiles as `pathprep shard` cuts them, the model takes them.

The same code as for shards finds tissue, cuts, filters and normalises (pathprep.streaming), and the same code
as for datasets resizes and encodes. So features are those of a dataset of the same parameters, but for JPEG:
of shards of `--quality 100 --subsampling 444` they differ by its rounding, of the same pixels by nothing.

The model does not wait: processes read several slides at once, and ahead; batches are filled across slides.
Memory is that of the processes, of the batches and of some tiles in between, whatever a slide's size:
features lie on the disk until their file is written. Each slide is made whole or not at all; one that fails
costs itself.
"""

import dataclasses
import math
import random
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pathprep.errors import UsageError
from pathprep.launchers import server
from pathprep.params.origin import AskedOrigin
from pathprep.params.running import AnyPath, check_run
from pathprep.params.running import path as as_path
from pathprep.params.settings import flat, unknown
from pathprep.params.shard import MPP, ShardParams
from pathprep.sharding.names import with_names
from pathprep.sharding.plan import in_part
from pathprep.slides import find, find_remote
from pathprep.slides.find import Found
from pathprep.slides.find_remote import RemoteSlide
from pathprep.storage.base import is_url
from pathtrain.distributed.workers import Place, cores
from pathtrain.features.encode import check_size
from pathtrain.features.facts import described, made_from, seen
from pathtrain.features.files import FORMATS
from pathtrain.features.fitting import check_mpp
from pathtrain.features.slide_files import SlideFiles, Target
from pathtrain.features.slide_run import SlideRun
from pathtrain.features.slides_account import SlidesSummary, gathered
from pathtrain.features.write import settle
from pathtrain.params.encoding import Dtype, Format, How
from pathtrain.params.from_slides import SCRATCH_LIMIT_GB, SLIDE_TIMEOUT_S, TILE_SETTINGS
from pathtrain.runs.model import LoadedModel

# What ``embed`` takes for slides, beside the parameters of tiles
OPTIONS = frozenset(
    {
        "masks",
        "mask_origin",
        "workers",
        "part",
        "slide_timeout",
        "tile_seed",
        "scratch",
        "scratch_limit",
        *TILE_SETTINGS,
    }
)


def begin() -> None:
    """Have the process that readers are forked from load."""
    server.start()


def embed_slides(
    model: LoadedModel,
    slides: Sequence[AnyPath],
    out: Path,
    how: How,
    *,
    format: Format = "hdf5",
    dtype: Dtype = "float32",
    replace: bool = False,
    masks: AnyPath | None = None,
    mask_origin: AskedOrigin = "auto",
    workers: int | None = None,
    part: tuple[int, int] | None = None,
    slide_timeout: float = SLIDE_TIMEOUT_S,
    scratch: AnyPath | None = None,
    scratch_limit: float = SCRATCH_LIMIT_GB,
    **settings: Any,
) -> SlidesSummary:
    """Write the features of slides; see ``embed``.

    Args:
        model, out, how, format, dtype, replace: as of ``embed``.
        slides, masks, mask_origin: as of ``pathprep.shard``; slides and folders may be URLs, too.
        workers: slides that are read at a time; None: one per core, two at least.
        part: (k, n): only slides whose name hashes to part k of n.
        slide_timeout: seconds in which a slide may give no tile though there is room for some.
        scratch: where slides of URLs are fetched to; None: the system's temporary folder.
        scratch_limit: gigabytes that may lie there.
        settings: of pathprep.params.shard.ShardParams, but for what only stored tiles have.

    Raises:
        UsageError: an argument is wrong, there is no slide, or ``out`` holds features of another model.
        OSError: ``out`` cannot be written.
        PeerError: another process stopped.
    """
    start = time.perf_counter()
    check_run(workers=workers, slide_timeout=slide_timeout, part=part)
    params = slide_params(model, how, settings)
    _check_mpp(model, how, params, slides[0], out)
    found, remote = _found(slides, as_path(masks), mask_origin)
    if scratch is not None and not remote:
        raise UsageError("`scratch` goes with slides at a URL; leave it out")
    if not 0 < scratch_limit < math.inf:
        raise UsageError("`scratch_limit` is a number of gigabytes above 0")
    made, about = made_from(model, how, dtype), described(model, dtype)
    settle(out, made, replace)
    files = SlideFiles(out, FORMATS[format], made, about, params, partial(seen, model, how))
    named = with_names(found.slides, out)
    found.repeats += named.repeats
    place = Place.of_environment()
    sources = [_told(each, params) for each in named.slides if part is None or in_part(each.name, *part)]
    mine = _share(files.targets(sources, remote), place)
    todo = [target for target in mine if not files.is_done(target)]
    left = {target.name for target in todo}
    files.forget_failures(target for target in mine if target.name not in left)
    random.SystemRandom().shuffle(todo)  # so that several runs on one folder share the work
    summary = SlidesSummary.of(place, kept=len(mine) - len(todo), found=found, params=params)
    if todo:
        threads = how.threads or cores()
        run = SlideRun(model, how, files, todo, summary, threads)
        run.drive(workers or max(2, cores()), slide_timeout, as_path(scratch), round(scratch_limit * 1e9))
    summary.seconds = time.perf_counter() - start
    return gathered(summary, place)


def slide_params(model: LoadedModel, how: How, settings: dict[str, Any]) -> ShardParams:
    """What shapes the tiles: as asked for, and where nothing is said as the model wants it.

    ``tile`` is the side of the model's images, ``mpp`` what it was trained at (0.5 if it does not say). If
    the model has a stain target, tiles are normalised to it.

    Raises:
        UsageError: a setting is wrong, or ``stain`` does not go with the model.
    """
    for name in settings:
        if name not in OPTIONS:
            raise unknown(name, {**flat(How), **dict.fromkeys(OPTIONS)})
    given = dict(settings)
    given.setdefault("tile", how.short or check_size(model, how.size))
    given.setdefault("mpp", model.mpp or MPP)
    if "tile_seed" in given:
        given["seed"] = given.pop("tile_seed")
    target = model.target
    if target is None:
        return ShardParams.of(**{"stain": "none", **given})
    if given.get("stain", "bake") != "bake":
        raise UsageError(
            f"`stain` {given['stain']}: {model.name} was trained on normalised tiles; leave it out, and they "
            "are normalised to its target"
        )
    for name in ("stain_keep", "stain_beta"):
        if name in given:
            raise UsageError(f"`{name}`: is {model.name}'s own, with its target; leave it out")
    params = ShardParams.of(**{**given, "stain": "bake", "target": target.target})
    stain = dataclasses.replace(
        params.stain, keep=target.keep, alpha=target.alpha, beta=target.beta, io=target.io
    )
    return dataclasses.replace(params, stain=stain)


def _check_mpp(model: LoadedModel, how: How, params: ShardParams, source: AnyPath, out: Path) -> None:
    """Refuse tiles that the model would see at another MPP than it was trained at."""
    try:
        check_mpp(model, params.tile, params.mpp, how, str(source), str(out))
    except UsageError as error:
        what = str(error).partition(". Make tiles for it")[0]
        raise UsageError(
            f"{what}; leave `mpp` and `tile` out, which are then the model's own, or give `any_mpp`"
        ) from None


def _found(
    slides: Sequence[AnyPath], masks: Path | None, mask_origin: AskedOrigin
) -> tuple[Found, dict[Path, RemoteSlide]]:
    """What the inputs hold, and of those at URLs where they are: there a slide's path is but its name."""
    urls = [str(each) for each in slides if is_url(each)]
    if urls and masks is not None:
        raise UsageError("`masks` goes with slides on this machine, and not with URLs")
    found = _local([each for each in slides if not is_url(each)], masks, mask_origin)
    remote: dict[Path, RemoteSlide] = {}
    for url in urls:
        there, left = find_remote.look(url)
        remote |= {Path(slide.path): slide for slide in there}
        found.left.merge(left)
    found.slides += [find.SlideSource(path) for path in remote]
    return found, remote


def _local(slides: Sequence[AnyPath], masks: Path | None, mask_origin: AskedOrigin) -> Found:
    if not slides:
        return Found()
    try:
        return find.look([Path(each) for each in slides], masks, mask_origin)
    except UsageError as error:
        if len(slides) == 1 and Path(slides[0]).is_dir() and "no slides in this folder" in str(error):
            raise UsageError(
                f"{error}; nor is it a dataset (dataset.json, from `pathprep shard`) or a folder of labelled "
                "images (labels.csv with the columns file, label and perhaps group)"
            ) from None
        raise


def _told(source: find.SlideSource, params: ShardParams) -> find.SlideSource:
    """A slide with what the run says of it; a process may have another working folder."""
    if source.mask is not None and not source.mask.is_file():
        raise UsageError(f"{source.mask}: no such mask (for slide {source.path})")
    return dataclasses.replace(
        source, default_mpp=params.default_mpp, mask=source.mask and source.mask.absolute()
    )


def _share(targets: list[Target], place: Place) -> list[Target]:
    """Slides of one of several processes, by their files' sizes; all processes agree."""
    if place.world == 1:
        return targets
    sizes = {
        each.name: each.remote.size if each.remote else each.source.measures()[0] or 0 for each in targets
    }
    loads, mine = [0] * place.world, []
    for target in sorted(targets, key=lambda each: (-sizes[each.name], each.name)):
        least = loads.index(min(loads))
        loads[least] += sizes[target.name] + 1
        if least == place.rank:
            mine.append(target)
    return mine
