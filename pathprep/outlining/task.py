"""One slide's mask: the unit of work, of retry and of parallelism."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from pathprep.dataset.failed import FailedShard
from pathprep.dataset.marker import SourceRecord
from pathprep.dataset.schema import sha256
from pathprep.errors import SlideError
from pathprep.launchers.base import Failure, Progress
from pathprep.outlining import record
from pathprep.outlining.record import LITTLE, MANY, MUCH, Outlined
from pathprep.params.shard import ShardParams
from pathprep.sharding.survey import Tissue, look, resolution
from pathprep.slides import outlines
from pathprep.slides.find import SlideSource
from pathprep.slides.geojson import to_geojson
from pathprep.slides.identity import file_size
from pathprep.slides.slide import Slide
from pathprep.storage import atomic

THUMB = 480  # pixels of the longer side
OUTLINE = (0, 110, 255)  # neither stain nor glass
CLASS_COLOURS = ((230, 150, 0), (0, 160, 120), (200, 0, 160), (120, 90, 0))


@dataclass(frozen=True)
class OutlineTask:
    """A slide whose tissue is to be outlined.

    Attributes:
        root: the folder of masks. png: whether the mask is wanted as a picture too.
        keep: a mask that somebody has edited is kept. others: as of surveying.task.SurveyTask.
    """

    root: Path
    source: SlideSource
    params: ShardParams
    build_id: str
    png: bool
    keep: bool = True

    @property
    def path(self) -> Path:
        """See launchers.base.Task."""
        return self.source.path

    def work(self, progress: Progress) -> tuple[Outlined, bool]:
        """See launchers.base.Task."""
        source, root = self.source, self.root
        standing = record.read(root, source.name)
        if standing is not None and self.keep and standing.is_edited(root):
            raise SlideError(
                f"{root / f'{source.name}.geojson'}: was edited since it was made, with other settings "
                "than now; move it away, or `rebuild`"
            )
        inputs = _inputs(source)
        progress.stage(1)
        with Slide(source.path, self.params.reader) as slide:
            mpp = resolution(slide, self.params, source.mpp).value
            seen = look(slide, mpp, self.params.tissue, source.mask, source.mask_origin)
            polygons = outlines.contours(seen.mask, slide.width, slide.height)
            geojson = to_geojson(polygons, slide.bounds)
            share = float(seen.mask.mean())
            found = Outlined(
                slide=source.name,
                build_id=self.build_id,
                inputs=inputs,
                path=source.recorded,
                mpp=float(mpp),
                width=slide.width,
                height=slide.height,
                share=share,
                area=share * slide.width * slide.height * mpp**2 / 1e6,
                pieces=len(polygons),
                small=seen.too_small[0],
                classes={name: float(mask.mean()) for name, mask in seen.classes.items()},
                notes=_notes(seen, share, len(polygons), share * slide.width * slide.height * mpp**2),
                mask="",
            )
        progress.stage(3)
        path = root / f"{source.name}.geojson"
        atomic.write_bytes(path, geojson)
        atomic.write_bytes(root / "thumbs" / f"{source.name}.jpg", _thumb(seen))
        if self.png:
            picture = io.BytesIO()
            Image.fromarray(seen.mask.astype(np.uint8) * 255).save(picture, "PNG")
            atomic.write_bytes(root / "png" / f"{source.name}.png", picture.getvalue())
        made = Outlined(**{**vars(found), "mask": sha256(path)})
        record.write(root, made)
        (root / "failed" / f"{source.name}.json").unlink(missing_ok=True)
        return made, True

    def failed(self, failure: Failure) -> FailedShard:
        """What is recorded of a failure."""
        source = SourceRecord(self.source.recorded, file_size(self.path))
        return FailedShard(**vars(failure), slide=self.source.name, source=source, build_id=self.build_id)


def _inputs(source: SlideSource) -> Mapping[str, object]:
    return dict(source.inputs())


def done(root: Path, source: SlideSource, build_id: str, png: bool) -> Outlined | None:
    """The slide's mask, where it need not be made again; an edited one counts as well."""
    found = record.read(root, source.name)
    if found is None or found.build_id != build_id or dict(found.inputs) != _inputs(source):
        return None
    return None if png and not (root / "png" / f"{source.name}.png").is_file() else found


def _notes(seen: Tissue, share: float, pieces: int, area: float) -> tuple[str, ...]:
    lost = seen.too_small[1]
    own = {
        "little_tissue": 0 < share < LITTLE,
        "no_glass": not seen.glass and seen.given is None,
        "pieces": pieces > MANY,
        "small_pieces": lost > MUCH * area,
    }
    return (*seen.notes, *(code for code, holds in own.items() if holds))


def _thumb(seen: Tissue) -> bytes:
    """The overview with the tissue outlined, and each class of a model in a colour."""
    height, width = seen.overview.shape[:2]
    by = min(1.0, THUMB / max(height, width))
    size = (max(1, round(width * by)), max(1, round(height * by)))
    pixels = np.array(Image.fromarray(seen.overview).resize(size, Image.Resampling.BOX))

    def small(mask: np.ndarray) -> np.ndarray:
        shares = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
        return np.asarray(shares) >= 128

    for mask, colour in zip(seen.classes.values(), CLASS_COLOURS, strict=False):
        there = small(mask)
        pixels[there] = (pixels[there] * 0.45 + np.array(colour) * 0.55).astype(np.uint8)
    inside = small(seen.mask)
    edge = ndimage.binary_dilation(inside, iterations=1) & ~ndimage.binary_erosion(inside, border_value=1)
    pixels[edge] = OUTLINE
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=82)
    return data.getvalue()
