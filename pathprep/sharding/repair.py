"""Makes the damaged slides of a dataset again, from their slide files and the dataset's own parameters."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pathprep.dataset import info
from pathprep.dataset.marker import SlideMarker
from pathprep.dataset.reader import Dataset
from pathprep.dataset.verify import Findings
from pathprep.errors import UsageError
from pathprep.folders import verify
from pathprep.launchers import cards
from pathprep.launchers.local import Local
from pathprep.params.running import SLIDE_TIMEOUT_S, AnyPath, check_run
from pathprep.sharding.plan import Plan, prepare
from pathprep.sharding.recorded import recorded
from pathprep.sharding.run import make
from pathprep.sharding.summary import RunSummary, Watcher
from pathprep.slides.find import SlideSource, whole
from pathprep.storage.base import is_url


@dataclass
class Repair:
    """What was found and what was done.

    Attributes:
        damaged: of the slides. folder: files that belong to no slide; nothing is done about them.
        summary: of the run that made the slides again; None if there was no damage.
    """

    damaged: list[Findings]
    folder: Findings
    summary: RunSummary | None

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "damaged": [found.as_dict() for found in self.damaged],
            "foreign": self.folder.problems,
            "run": self.summary.as_dict() if self.summary else None,
        }


def repair(
    dataset: AnyPath = "dataset",
    *,
    workers: int | None = None,
    slide_timeout: float = SLIDE_TIMEOUT_S,
    watch: Watcher | None = None,
) -> Repair:
    """Verify a dataset and make the damaged slides again; the others are not touched.

    Args:
        dataset: its folder. workers, slide_timeout, watch: as of ``pathprep.shard``.

    Raises:
        DatasetError: not a dataset.
        UsageError: a URL, or it was made by another version, or on a GPU and there is none here.
    """
    check_run(workers=workers, slide_timeout=slide_timeout)
    if is_url(dataset):
        raise UsageError(
            f"{dataset}: only a local folder is repaired; use `pathprep shard --rebuild` for a URL"
        )
    root = Path(dataset)
    info.mended(root)
    there = Dataset(root)
    *slides, folder = verify(root)
    damaged = [found for found in slides if found.problems or found.tiles]
    known = [found.slide for found in damaged if not found.lost]
    if not known:
        return Repair(damaged, folder, None)
    # whatever MPP a slide has, it was accepted before
    params = replace(recorded(there.params), low_mpp=1e-9, high_mpp=1e9)
    markers = [there.markers[name] for name in known]
    todo = [source_of(marker) for marker in markers if isinstance(marker, SlideMarker)]
    plan = Plan(there.info["build_id"], todo, todo, {})
    launcher = Local(workers, cards.find(None) if params.device == "cuda" else 0)
    prepare(root, params, rebuild=False)
    made = make(plan, root, params, launcher, timeout=slide_timeout, rebuild=True, watch=watch)
    return Repair(damaged, folder, made)


def source_of(marker: SlideMarker) -> SlideSource:
    """The slide that a shard was made from, as the marker records it."""
    made, given, name = marker.source, marker.inputs, marker.slide
    slide = marker.slide_id or name
    at = marker.target_mpp if slide != name else None
    mask = Path(made.mask) if made.mask else None
    default_mpp, origin = given.get("default_mpp"), given.get("mask_origin", "auto")
    source = SlideSource(Path(made.path), given["mpp"], mask, name, slide, at, default_mpp, origin)
    return whole(source) if marker.vendor == "dicom" else source
