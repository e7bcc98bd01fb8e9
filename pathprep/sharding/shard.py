"""The front door: slides into a dataset, and what that would make."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from pathprep.errors import UsageError
from pathprep.launchers import cards, server
from pathprep.launchers.base import Launcher
from pathprep.launchers.local import Local
from pathprep.params.origin import AskedOrigin
from pathprep.params.running import MIN_FREE_GB, SLIDE_TIMEOUT_S, AnyPath, check_run, listed, path
from pathprep.params.shard import MPP, ShardParams
from pathprep.pseudonyms.slides import Pseudonyms
from pathprep.sharding import encoder, run
from pathprep.sharding import forecast as forecasts
from pathprep.sharding import plan as plans
from pathprep.sharding.forecast import Forecast
from pathprep.sharding.keys import key_for
from pathprep.sharding.plan import Plan
from pathprep.sharding.remote import Remote, opened, writable
from pathprep.sharding.summary import RunSummary, Watcher
from pathprep.slides import find
from pathprep.slides.find import Found, SlideSource
from pathprep.stain import Target
from pathprep.storage.base import is_url
from pathprep.words import counted

Gpus = int | Literal["all"] | None
log = logging.getLogger(__name__)


def shard(
    slides: AnyPath | Iterable[AnyPath],
    out: AnyPath = "dataset",
    *,
    masks: AnyPath | None = None,
    mask_origin: AskedOrigin = "auto",
    mpp: float | Sequence[float] = MPP,
    region: int | None = None,
    target: Target | AnyPath | None = None,
    gpus: Gpus = None,
    workers: int | None = None,
    launcher: Launcher | None = None,
    part: tuple[int, int] | None = None,
    slide_timeout: float = SLIDE_TIMEOUT_S,
    rebuild: bool = False,
    min_free: float = MIN_FREE_GB,
    forecast: bool = True,
    scratch: AnyPath | None = None,
    pseudonymise: AnyPath | None = None,
    watch: Watcher | None = None,
    **settings: Any,
) -> RunSummary:
    """Cut slides into tissue tiles, normalise their stain, write WebDataset shards.

    Call it again to go on: finished slides are left alone, failed ones are tried again. A slide that fails
    does not raise; it stands in the summary's ``failures`` and in the dataset's failed/.

    Args:
        slides: slide files, folders, or CSVs with columns slide, mpp, mask and mask_origin; one or several.
        out: the dataset: a folder, made if absent, or a URL such as s3://bucket/folder.
        masks: your own tissue masks: a folder of <slide>.geojson, .png or .tif, or one file.
        mask_origin: what masks count from, on slides with bounds (MRXS, SCN, VMS, BIF): ``bounds`` as QuPath
            does, ``slide`` as OpenSlide does; ``auto``: what the mask or its shape says, else an error.
        mpp: micrometres per pixel of the tiles; several to shard each slide at each.
        region: pixels at ``mpp``; keep the tiles of whole regions of this side. None: single tiles.
        target: stain target, or the JSON file of one; None for the field's reference.
        gpus: make tiles on so many NVIDIA GPUs, or ``all``; None for the CPU. Their JPEGs have other bytes.
        workers: slides at a time; None for one per core, or four per GPU. Never changes a byte.
        launcher: where slides are made; None for processes of this machine.
        part: (k, n), 1 <= k <= n: only slides whose name hashes to part k of n.
        slide_timeout: seconds after which a slide is given up.
        rebuild: make finished slides again, also with other parameters.
        min_free: gigabytes; the run stops in order when the disk has fewer free.
        forecast: look at some slides first, and refuse a run that the disk cannot hold.
        scratch: local folder for slides in work, if ``out`` is a URL; None for a temporary one.
        pseudonymise: key file, made if absent: the dataset has keyed names instead of the slides' own names
            and paths, and the table of them is kept beside the key file. None: their own.
        watch: called a few times a second with counters, the summary so far and the number of slides.
        settings: parameters of pixels by flat name, such as ``tile=256, stain="fit", min_focus=50``; see
            ``pathprep.ShardParams.of``.

    Returns:
        The account of the run.

    Raises:
        UsageError: an argument is wrong, there is no slide, the dataset was made with other parameters, the
            disk is too small, or the GPUs cannot be used.
        DatasetError: another run has begun to rebuild the dataset, or the URL cannot be used.
        OSError: the folder cannot be read or written; a full disk ends the run in order instead.
    """
    check_run(workers=workers, slide_timeout=slide_timeout, min_free=min_free, part=part)
    params = parameters(mpp=mpp, region=region, target=target, gpus=gpus, **settings)
    found = _find(slides, masks, mask_origin, pseudonymise, out)
    runs_on = launcher or local_launcher(workers, gpus)
    with place(out, scratch) as (root, remote):
        params = encoder.settled(params, root, runs_on.gpus if isinstance(runs_on, Local) else 0)
        at = f" at {len(params.mpps)} resolutions" if params.more_mpps else ""
        number = len(found.slides)
        log.info("%s%s -> %s", counted(number), at, out)
        summary = run.shard(
            found.slides,
            root,
            params,
            launcher=runs_on,
            part=part,
            timeout=slide_timeout,
            rebuild=rebuild,
            watch=watch,
            min_free=round(min_free * 1e9),
            forecast=forecast,
            remote=remote,
        )
        summary.not_taken, summary.repeats = found.left, [*found.repeats, *summary.repeats]
        return summary


def forecast(
    slides: AnyPath | Iterable[AnyPath],
    out: AnyPath = "dataset",
    *,
    masks: AnyPath | None = None,
    mask_origin: AskedOrigin = "auto",
    mpp: float | Sequence[float] = MPP,
    region: int | None = None,
    target: Target | AnyPath | None = None,
    gpus: Gpus = None,
    workers: int | None = None,
    launcher: Launcher | None = None,
    part: tuple[int, int] | None = None,
    slide_timeout: float = SLIDE_TIMEOUT_S,
    rebuild: bool = False,
    scratch: AnyPath | None = None,
    pseudonymise: AnyPath | None = None,
    watch: Callable[[int, int], None] = lambda _done, _of: None,
    **settings: Any,
) -> Forecast:
    """Count the tiles that ``shard`` would make, by reason, and foresee their size; write nothing.

    Args, and errors: as of ``shard``, but for ``watch``: called with the number of slides seen, and of all.
    """
    check_run(workers=workers, slide_timeout=slide_timeout, part=part)
    params = parameters(mpp=mpp, region=region, target=target, gpus=gpus, **settings)
    found = _find(slides, masks, mask_origin, pseudonymise, out, dry=True)
    runs_on = launcher or local_launcher(workers, None)
    with place(out, scratch, dry=True) as (root, remote):
        params = encoder.settled(params, root, None)
        changed = "" if rebuild else plans.changes(root, params)
        if changed:
            log.warning(
                "%s: holds slides made with other parameters (%s); a run needs another `out`, or `rebuild` "
                "to make them again",
                out,
                changed,
            )
        plan = plans.plan(found.slides, root, params, rebuild=rebuild, part=part, dry=True, remote=remote)
        seen = forecasts.look(plan.todo, root, params, runs_on, timeout=slide_timeout, watch=watch)
        seen.done = len(plan.skipped)
        seen.not_taken, seen.repeats = found.left, [*found.repeats, *plan.repeats]
        if remote is not None:
            seen.free = None
    return seen


@contextmanager
def planned(
    slides: AnyPath | Iterable[AnyPath],
    out: AnyPath,
    *,
    masks: AnyPath | None,
    mask_origin: AskedOrigin = "auto",
    scratch: AnyPath | None,
    rebuild: bool,
    pseudonymise: AnyPath | None = None,
    **what: Any,
) -> Iterator[tuple[Path, ShardParams, Callable[[], Plan[SlideSource]]]]:
    """What ``shard`` would do, for those that have it done elsewhere.

    Yields:
        The local folder, the parameters, and a function that makes or checks the dataset and tells what is to
        do. Errors: as of ``shard``.
    """
    params = parameters(**what)
    found = _find(slides, masks, mask_origin, pseudonymise, out)
    if found.left.files:
        log.warning("%s", found.left)
    with place(out, scratch) as (root, remote):
        params = encoder.settled(params, root, 0)
        yield root, params, lambda: plans.plan(found.slides, root, params, rebuild=rebuild, remote=remote)


def parameters(
    *,
    mpp: float | Sequence[float],
    region: int | None,
    target: Target | AnyPath | None,
    gpus: Gpus,
    **settings: Any,
) -> ShardParams:
    """The parameters that these arguments of ``shard`` mean.

    Raises:
        UsageError: one is wrong.
    """
    if gpus is not None and gpus != "all" and not (isinstance(gpus, int) and gpus > 0):
        raise UsageError(f"`gpus` is {gpus!r}; expected a number from 1, or all")
    return ShardParams.of(
        mpp=mpp,
        region=region,
        target=Target.given(target),
        device="cpu" if gpus is None else "cuda",
        **settings,
    )


def _find(
    slides: AnyPath | Iterable[AnyPath],
    masks: AnyPath | None,
    mask_origin: AskedOrigin,
    key_file: AnyPath | None,
    out: AnyPath,
    *,
    dry: bool = False,
) -> Found:
    if mask_origin not in get_args(AskedOrigin):
        raise UsageError(f"`mask_origin` is {mask_origin!r}; give {', '.join(get_args(AskedOrigin))}")
    found = find.look([Path(each) for each in listed(slides)], path(masks), mask_origin)
    if is_url(out):
        writable(str(out))
    if key_file is not None:  # made once there are slides, and not for a slip in their folder's name
        found.slides = Pseudonyms(key_for(key_file, out, dry=dry), noting=not dry).hide(found.slides)
    return found


def local_launcher(workers: int | None, gpus: Gpus) -> Local:
    """The launcher of this machine; says if its start will take a while."""
    if server.is_cold():
        log.info("Compiling kernels, once: about a minute.")
    return Local(workers, 0 if gpus is None else cards.find(None if gpus == "all" else gpus))


@contextmanager
def place(
    out: AnyPath, scratch: AnyPath | None, *, dry: bool = False
) -> Iterator[tuple[Path, Remote | None]]:
    """The local folder of a run, and what is at the URL if ``out`` is one; see remote.opened.

    Raises:
        UsageError: a ``scratch`` that would have no effect, or is no folder.
    """
    chosen, remote = path(scratch), is_url(out)
    if chosen and not remote:
        raise UsageError("`scratch` goes with a URL as `out`, such as s3://bucket/folder")
    if chosen and chosen.exists() and not chosen.is_dir():
        raise UsageError(f"{chosen}: not a folder; choose another `scratch`")
    if not remote:
        yield Path(out), None
        return
    with opened(writable(str(out)), chosen, dry=dry) as there:
        yield there.root, there
