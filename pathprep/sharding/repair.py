"""Makes the damaged slides of a dataset again, from their slide files and the dataset's own parameters."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pathprep.dataset import info
from pathprep.dataset.marker import SlideMarker, is_displaced, sealed_in
from pathprep.dataset.reader import Dataset
from pathprep.dataset.remaking import made_again
from pathprep.dataset.verify import Findings
from pathprep.errors import UsageError
from pathprep.folders import is_mixed, is_pseudonymised, kind_of, verify
from pathprep.launchers import cards
from pathprep.launchers.local import Local
from pathprep.params.running import SLIDE_TIMEOUT_S, AnyPath, check_run
from pathprep.params.tissue import TissueParams
from pathprep.pseudonyms.slides import Pseudonyms, key_of, of_dataset
from pathprep.sharding.plan import Plan, prepare, sweep
from pathprep.sharding.recorded import recorded
from pathprep.sharding.run import make
from pathprep.sharding.summary import RunSummary, Watcher
from pathprep.slides.find import SlideSource, whole
from pathprep.slides.identity import is_there
from pathprep.storage.base import is_url
from pathprep.storage.place import storage_at

KINDS = {"tiles": "tiles that were imported", "mixed": "mixed shards"}


@dataclass
class Repair:
    """What was found and what was done.

    Attributes:
        damaged: of the slides. folder: files that belong to no slide; nothing is done about them.
        summary: of the run that made the slides again; None if there was no damage.
        moved: names of damaged slides whose files are no longer where they were.
        elsewhere: what to do of those.
    """

    damaged: list[Findings]
    folder: Findings
    summary: RunSummary | None
    moved: list[str] = field(default_factory=list)
    elsewhere: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "damaged": [found.as_dict() for found in self.damaged],
            "foreign": self.folder.problems,
            "moved": self.moved,
            "run": self.summary.as_dict() if self.summary else None,
        }


def _with_model(tissue: TissueParams, file: AnyPath | None, root: Path) -> TissueParams:
    """The parameters with the file of their tissue model.

    Raises:
        UsageError: they have one and the file is not given, or is of another.
    """
    if tissue.described is None:
        return tissue
    if file is None:
        raise UsageError(
            f"{root}: its tissue was found by a model (SHA-256 {tissue.described.sha256[:12]}...), and "
            "slides are damaged; give its file (`tissue_model`)"
        )
    found = replace(tissue, model=Path(file), described=None)
    if found.described != tissue.described:
        raise UsageError(f"{file}: not the model that {root} was made with, or described otherwise")
    return found


def repair(
    dataset: AnyPath = "dataset",
    *,
    workers: int | None = None,
    slide_timeout: float = SLIDE_TIMEOUT_S,
    pseudonymise: AnyPath | None = None,
    tissue_model: AnyPath | None = None,
    watch: Watcher | None = None,
) -> Repair:
    """Verify a dataset and make the damaged slides again; the others are not touched.

    Slides of which some file may not be read, and nothing else is wrong, are left as they are. Made again are
    also those that a run was replacing when it was killed: their markers say what they were made from.

    Args:
        dataset: its folder. workers, slide_timeout, watch: as of ``pathprep.shard``.
        tissue_model: file of the model that found the tissue, if one did.
        pseudonymise: key file of a pseudonymised dataset, which alone says where its slides are.

    Raises:
        DatasetError: not a dataset.
        UsageError: a URL, or it holds no slides but imported tiles or mixed shards; it is pseudonymised and
            the key file is not given, is another, or its table has none of the damaged slides; or it was made
            by another version, or on a GPU and there is none here.
    """
    check_run(workers=workers, slide_timeout=slide_timeout)
    if is_url(dataset):
        raise UsageError(
            f"{dataset}: only a local folder is repaired; use `pathprep shard --rebuild` for a URL"
        )
    root = Path(dataset)
    if not is_mixed(root):
        info.mended(root)
    kind = kind_of(root)
    if kind != "slides":
        cure = made_again(storage_at(root), kind, secret=is_pseudonymised(root), rebuild=True)
        raise UsageError(
            f"{root}: holds {KINDS[kind]}, not repaired from slides; {cure} makes damaged ones again"
        )
    there = Dataset(root)
    secret = None if pseudonymise is None else of_dataset(there.info, Path(pseudonymise), root)
    sweep(root)  # what killed runs have left is no damage
    *slides, folder = verify(root)
    damaged = [found for found in slides if found.problems or found.tiles]
    known = dict(_known(there, [found.slide for found in damaged if not found.closed]))
    if not known:
        return Repair(damaged, folder, None)
    # whatever MPP a slide has, it was accepted before
    params = replace(recorded(there.params), low_mpp=1e-9, high_mpp=1e9)
    params = replace(params, tissue=_with_model(params.tissue, tissue_model, root))
    if secret is None and key_of(there.info) is not None:
        raise UsageError(
            f"{root}: is pseudonymised, and slides are damaged: {', '.join(sorted(known)[:3])}; give its key "
            "file (`pseudonymise`), which alone says where they are"
        )
    todo, unknown = list[SlideSource](), dict[str, UsageError]()
    for name, marker in known.items():
        try:
            todo.append(source_of(name, marker, secret))
        except UsageError as error:  # the others are made all the same
            unknown[name] = error
    for found in damaged:
        if found.slide in unknown:
            found.problems.insert(0, str(unknown[found.slide]))
            found.lost = True
    if not todo:
        raise next(iter(unknown.values()))
    plan = Plan(there.info["build_id"], todo, todo, {})
    launcher = Local(workers, cards.find(None) if params.device == "cuda" else 0)
    prepare(root, params, rebuild=False, key_id=key_of(there.info))
    made = make(plan, root, params, launcher, timeout=slide_timeout, rebuild=True, watch=watch)
    failed = (source for source in todo if source.name in made.failures)
    moved = sorted(source.name for source in failed if not is_there(source.path))
    place = made_again(
        there.storage, kind, secret=secret is not None, rebuild=True, place="WHERE_THEY_ARE_NOW"
    )
    return Repair(damaged, folder, made, moved, f"{place} makes them again" if moved else "")


def _known(there: Dataset, names: Iterable[str]) -> Iterator[tuple[str, SlideMarker]]:
    """Those of slides whose markers tell what they were made from; they may be displaced."""
    build = there.info["build_id"]
    for name in names:
        with suppress(OSError):  # a fault of the disk, which verify has told
            marker = sealed_in(there.storage, f"slides/{name}.json")
            if isinstance(marker, SlideMarker) and (marker.build_id == build or is_displaced(marker, build)):
                yield name, marker


def source_of(name: str, marker: SlideMarker, secret: Pseudonyms | None = None) -> SlideSource:
    """The slide that a shard was made from, as the marker of this name records it.

    Args:
        secret: of a pseudonymised dataset.

    Raises:
        UsageError: its table does not have the slide.
    """
    made, given = marker.source, marker.inputs
    slide = marker.slide_id or name
    at = marker.target_mpp if slide != name else None
    mask = Path(made.mask) if made.mask else None
    default_mpp, origin = given.get("default_mpp"), given.get("mask_origin", "auto")
    source = SlideSource(Path(made.path), given["mpp"], mask, name, slide, at, default_mpp, origin)
    if secret is not None:
        return secret.source(source)
    return whole(source) if marker.vendor == "dicom" else source
