"""One slide of a survey: the unit of work, of retry and of parallelism."""

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from pathprep.dataset.failed import FailedShard
from pathprep.dataset.marker import MaskRecord, SlideRecord, SourceRecord, same_inputs
from pathprep.launchers.base import Failure, Progress
from pathprep.params.shard import ShardParams
from pathprep.sharding.survey import look, resolution
from pathprep.sharding.task import check_build
from pathprep.slides.find import SlideSource
from pathprep.slides.identity import file_size
from pathprep.slides.mpp.settle import DEFAULT_MPP
from pathprep.slides.own_names import printable
from pathprep.slides.slide import Slide
from pathprep.surveys import folder, record
from pathprep.surveys.record import Surveyed
from pathprep.surveys.tissue_bits import PackedMask


@dataclass(frozen=True)
class SurveyTask:
    """A slide to survey.

    Attributes:
        root: the survey's folder. source: the slide. params: of the run. build_id: of the survey.
        rebuild: survey it even if it is done.
    """

    root: Path
    source: SlideSource
    params: ShardParams
    build_id: str
    rebuild: bool = False

    @property
    def path(self) -> Path:
        """See launchers.base.Task."""
        return self.source.path

    def work(self, progress: Progress) -> tuple[Surveyed, bool]:
        """See launchers.base.Task: another run may have surveyed the slide since this one was planned."""
        check_build(self.root / folder.NAME, self.build_id)
        standing = None if self.rebuild else done(self.root, self.source, self.build_id)
        if standing is not None:
            return standing, False
        made = survey_slide(self.source, self.params, self.build_id, progress)
        progress.stage(3)
        record.write(self.root / "slides" / f"{self.source.name}.json", made)
        (self.root / "failed" / f"{self.source.name}.json").unlink(missing_ok=True)
        return made, True

    def failed(self, failure: Failure) -> FailedShard:
        """What is recorded of a failure."""
        source = SourceRecord(self.source.recorded, file_size(self.path))
        return FailedShard(**vars(failure), slide=self.source.name, source=source, build_id=self.build_id)


def done(root: Path, source: SlideSource, build_id: str) -> Surveyed | None:
    """The slide as it was surveyed, where it need not be again: of this build, and from the same inputs.

    Where only its file has moved, it is written anew with the place where it is now.
    """
    path = root / "slides" / f"{source.name}.json"
    found = record.read(path)
    if found is None or found.build_id != build_id or not same_inputs(found, source.inputs()):
        return None
    if found.source.path != source.recorded:
        found = replace(found, source=_source(source, source.path.stat()))
        record.write(path, found)
    return found


def survey_slide(
    source: SlideSource, params: ShardParams, build_id: str, progress: Progress | None = None
) -> Surveyed:
    """Look at a slide; its pixels are read once, from its smallest level that is large enough.

    Raises:
        SlideError: the slide cannot be used.
    """
    progress = progress or Progress()
    progress.stage(0)
    inputs = source.inputs()  # before the first pixel: a slide that changes meanwhile is surveyed again
    with Slide(source.path, params.reader) as slide:
        state = source.path.stat()
        progress.stage(1)
        mpp = resolution(slide, params, source.mpp)
        seen = look(slide, mpp.value, params.tissue, source.mask, source.mask_origin)
        if mpp.source != DEFAULT_MPP:
            del inputs["default_mpp"]
        if slide.bounds is None:  # with them, an origin has an effect
            inputs.pop("mask_origin", None)
        given = seen.given
        taken = MaskRecord(given.origin, given.source, given.notes) if given is not None else None
        return Surveyed(
            slide=source.name,
            own_name=printable(source.own_name),
            build_id=build_id,
            source=_source(source, state),
            inputs=inputs,
            mpp=float(mpp.value),
            mpp_source=mpp.source,
            reader=slide.reader,
            vendor=slide.vendor,
            width=slide.width,
            height=slide.height,
            levels=tuple(slide.levels),
            bounds=slide.bounds,
            tissue=PackedMask.of(seen.mask),
            mask=taken,
            notes=seen.notes,
        )


def _source(source: SlideSource, state: os.stat_result) -> SlideRecord:
    size = file_size(source.path) if stat.S_ISDIR(state.st_mode) else state.st_size
    return SlideRecord(source.recorded, size, state.st_mtime, source.recorded_mask)
