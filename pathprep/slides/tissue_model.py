"""Tissue and other classes as an ONNX model sees them, on the overview or, of a finer model, on the slide.

The slide is covered by squares, each with a margin that is not used; outside of the slide there is white.
Of each square the probabilities are averaged over the overview's pixels and kept as bytes, so that memory
is a byte a class and pixel of the overview. One square is run at a time (batches are fixed in many files)
on one thread: slides run beside each other, and the sums do not depend on their number.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from pathprep.errors import UnreadableSlide, UsageError
from pathprep.params import onnx_file
from pathprep.params.tissue import TissueDevice
from pathprep.params.tissue_model import INSTALL, TissueModel
from pathprep.slides.readers.base import Pixels
from pathprep.slides.slide import STRIP_PIXELS, Slide

CUDA = "CUDAExecutionProvider"
Probabilities = npt.NDArray[np.float32]
# Pixels (size, size, 3) of a square from x, y on, both in pixels of the search picture, and its side there
Crop = Callable[[float, float, float, int], Pixels]


class Seen(NamedTuple):
    """What a model sees: (h, w) bool tissue, and (h, w) int8 the class of each pixel."""

    tissue: npt.NDArray[np.bool_]
    classes: npt.NDArray[np.int8]


@lru_cache(maxsize=2)
def session(path: Path, sha256: str, device: TissueDevice) -> Any:
    """The open model; its file must be the one whose hash is known.

    Raises:
        UsageError: it is another by now, ONNX Runtime cannot run it, or there is no such device.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(f"{path}: ONNX Runtime cannot be imported here ({error}); {INSTALL}") from None

    if onnx_file.read(path).sha256 != sha256:
        raise UsageError(f"{path}: was changed since this run began; run the command again")
    if device == "cuda" and CUDA not in onnxruntime.get_available_providers():
        raise UsageError(
            "`tissue_device` cuda: this ONNX Runtime has no CUDA; pip uninstall onnxruntime, "
            "pip install onnxruntime-gpu"
        )
    options = onnxruntime.SessionOptions()
    # stated, so that it pins none to a core that a container may not have (onnxruntime#8313, #10736)
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = [CUDA, "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # of its many own kinds
        raise UsageError(
            f"{path}: ONNX Runtime cannot run it ({' '.join(str(error).split())[:300]})"
        ) from None


def see(
    slide: Slide, picture: Pixels, scale: float, mpp: float, model: TissueModel, device: TissueDevice = "cpu"
) -> Seen:
    """Run a model over a slide.

    Args:
        picture: (h, w, 3) uint8, the whole slide, as tissue is searched on it. scale: its MPP.
        mpp: of the slide, micrometres per level-0 pixel.

    Raises:
        UsageError: the file is not there, or cannot be run. UnreadableSlide: the slide is damaged.
    """
    if model.path is None:
        raise UsageError(
            f"{slide.path}: its tissue was found by a model (SHA-256 {model.sha256[:16]}...); give its file "
            "(`tissue_model`)"
        )
    runs = _Runner(session(model.path, model.sha256, device), model)
    fine = model.mpp < scale * 0.999
    crop = _of_slide(slide, picture.shape[1] / slide.width) if fine else _of_picture(picture)
    height, width = picture.shape[:2]
    ratio = model.mpp / scale  # pixels of the picture per pixel of the model
    step = max(1, int((model.size - 2 * model.overlap) * ratio))
    tissue, classes = np.zeros((height, width), bool), np.zeros((height, width), np.int8)
    chosen = [model.classes.index(each) for each in model.tissue]
    for top in range(0, height, step):
        for left in range(0, width, step):
            rows, columns = min(step, height - top), min(step, width - left)
            margin = model.overlap * ratio
            pixels = crop(left - margin, top - margin, model.size * ratio, model.size)
            found = _core(
                runs(pixels), model.overlap, columns / ratio, rows / ratio, (columns, rows), model.size
            )
            part = slice(top, top + rows), slice(left, left + columns)
            tissue[part] = found[chosen].sum(0) >= model.threshold
            classes[part] = found.argmax(0)
    return Seen(tissue, classes)


def _core(
    found: Probabilities, margin: int, across: float, down: float, size: tuple[int, int], side: int
) -> Probabilities:
    """(C, rows, columns): the used part of an output (C, H, W), averaged over the picture's pixels."""
    by = found.shape[2] / side, found.shape[1] / side  # an output may be coarser than the input
    box = (margin * by[0], margin * by[1], (margin + across) * by[0], (margin + down) * by[1])
    box = (*box[:2], min(box[2], found.shape[2]), min(box[3], found.shape[1]))
    finer = (box[2] - box[0]) > size[0]
    how = Image.Resampling.BOX if finer else Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(each).resize(size, how, box=box)) for each in found])


class _Runner:
    """Pixels (size, size, 3) uint8 to probabilities (C, H, W) float32."""

    def __init__(self, opened: Any, model: TissueModel) -> None:
        self.opened, self.model = opened, model
        [self.input, *more] = opened.get_inputs()
        if more:
            raise self._wrong(f"takes {1 + len(more)} inputs; a tissue model takes one picture")
        size, order = model.size, (2, 3) if model.layout == "nchw" else (1, 2)
        shape = self.input.shape
        if len(shape) != 4:
            raise self._wrong(f"takes an input of {len(shape)} dimensions; expected 4")
        for axis in order:
            if isinstance(shape[axis], int) and shape[axis] != size:
                raise self._wrong(f"takes {shape[axis]} pixels a side, `size` says {size}")
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
        if self.input.type not in kinds:
            raise self._wrong(f"takes {self.input.type}; expected float, float16 or uint8")
        self.kind: npt.DTypeLike = kinds[self.input.type]
        names = [each.name for each in opened.get_outputs()]
        if model.name and model.name not in names:
            raise self._wrong(f"has no output {model.name}; there are {', '.join(names)}")
        self.output = model.name or names[0]

    def _wrong(self, text: str) -> UsageError:
        return UsageError(f"{self.model.path}: {text}")

    def __call__(self, pixels: Pixels) -> Probabilities:
        model = self.model
        pixels = pixels if model.channels == "rgb" else pixels[:, :, ::-1]
        values: npt.NDArray[Any] = pixels
        if self.kind is not np.uint8:  # else the model does it itself
            mean, sd = np.array(model.mean, np.float32), np.array(model.sd, np.float32)
            values = (pixels.astype(np.float32) / np.float32(255) - mean) / sd
        values = values if model.layout == "nhwc" else values.transpose(2, 0, 1)
        batch = np.ascontiguousarray(values[None].astype(self.kind))
        try:
            [out] = self.opened.run([self.output], {self.input.name: batch})
        except Exception as error:  # of its many own kinds
            raise self._wrong(f"failed on a square ({' '.join(str(error).split())[:300]})") from None
        return self._probabilities(np.asarray(out))

    def _probabilities(self, out: npt.NDArray[Any]) -> Probabilities:
        model, count = self.model, len(self.model.classes)
        if model.output == "classes":
            numbers = out.reshape(out.shape[-2:]) if out.size == np.prod(out.shape[-2:]) else None
            if numbers is None or numbers.min() < 0 or numbers.max() >= count:
                raise self._wrong(f"gives {out.shape}, which are not numbers of {count} classes")
            found = np.stack([(numbers == k).astype(np.float32) for k in range(count)])
            return self._cut(found)
        if out.ndim != 4 or out.shape[0] != 1:
            raise self._wrong(f"gives {out.shape}; expected one map a class")
        maps = (out[0] if model.layout == "nchw" else out[0].transpose(2, 0, 1)).astype(np.float32)
        if len(maps) not in (count, 1) or (len(maps) == 1 and count != 2):
            raise self._wrong(f"gives {len(maps)} maps; `classes` names {count}")
        if model.output == "logits":
            maps = _softmax(maps) if len(maps) > 1 else 1 / (1 + np.exp(-maps.clip(-80, 80)))
        if len(maps) == 1:  # of the second class
            maps = np.concatenate([1 - maps, maps])
        if not np.isfinite(maps).all():
            raise UnreadableSlide(f"{model.path}: gives numbers that are none (NaN) on this slide")
        return self._cut(np.ascontiguousarray(maps, np.float32))

    def _cut(self, maps: Probabilities) -> Probabilities:
        """Without what it was padded by to a size that it likes: lower right, a few pixels."""
        size = self.model.size
        return maps[:, :size, :size]


def _softmax(maps: Probabilities) -> Probabilities:
    powers = np.exp(maps - maps.max(0))
    return np.asarray(powers / powers.sum(0))


def _of_picture(picture: Pixels) -> Crop:
    """Squares of a picture that is there."""

    def read(box: tuple[float, float, float, float], size: tuple[int, int]) -> Pixels:
        left, top, right, bottom = int(box[0]), int(box[1]), -int(-box[2] // 1), -int(-box[3] // 1)
        part = Image.fromarray(picture[top:bottom, left:right])
        finer = box[2] - box[0] >= size[0]
        how = Image.Resampling.BOX if finer else Image.Resampling.BILINEAR
        inside = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
        return np.asarray(part.resize(size, how, box=inside))

    whole = (picture.shape[1], picture.shape[0])
    return lambda x, y, span, size: _placed(read, (x, y, span, size), whole)


def _of_slide(slide: Slide, across: float) -> Crop:
    """Squares read from the slide; ``across``: pixels of the picture per level-0 pixel."""

    def crop(x: float, y: float, span: float, size: int) -> Pixels:
        by = span / across / size  # level-0 pixels per pixel of the model
        fitting = [k for k, level in enumerate(slide.levels) if level.downsample <= by * 1.01]
        number = max(fitting, key=lambda k: slide.levels[k].downsample, default=0)
        level = slide.levels[number]
        scale = level.width / (slide.width * across)
        return _placed(
            lambda box, wanted: _read(slide, number, box, wanted),
            (x * scale, y * scale, span * scale, size),
            (level.width, level.height),
        )

    return crop


def _placed(
    read: Callable[[tuple[float, float, float, float], tuple[int, int]], Pixels],
    square: tuple[float, float, float, int],
    whole: tuple[int, int],
) -> Pixels:
    """A square (x, y, span, size) of a source (w, h), white where it leaves it."""
    x, y, span, size = square
    pixels = np.full((size, size, 3), 255, np.uint8)
    by = span / size
    first = [max(0, int(np.ceil(-start / by - 1e-6))) for start in (x, y)]
    last = [min(size, int((end - start) / by + 1e-6)) for start, end in zip((x, y), whole, strict=True)]
    last = [max(a, b) if b > a else min(size, a + 1) for a, b in zip(first, last, strict=True)]
    box = [start + a * by for start, a in zip((x, y), first, strict=True)]
    box += [min(start + b * by, end) for start, b, end in zip((x, y), last, whole, strict=True)]
    box = [max(0.0, each) for each in box]
    if box[2] <= box[0] or box[3] <= box[1]:
        return pixels
    wanted = (last[0] - first[0], last[1] - first[1])
    pixels[first[1] : last[1], first[0] : last[0]] = read((box[0], box[1], box[2], box[3]), wanted)
    return pixels


def _read(slide: Slide, number: int, box: tuple[float, float, float, float], size: tuple[int, int]) -> Pixels:
    """A box of a level, reduced to ``size``, read in strips of at most STRIP_PIXELS."""
    left, right = int(box[0]), min(slide.levels[number].width, int(np.ceil(box[2])))
    by = (box[3] - box[1]) / size[1]
    rows = max(1, int(STRIP_PIXELS // (right - left) / max(by, 1e-9)))
    how = Image.Resampling.BOX if by >= 1 else Image.Resampling.BILINEAR
    strips = []
    for top in range(0, size[1], rows):
        end = min(size[1], top + rows)
        low, high = box[1] + top * by, box[1] + end * by
        first, last = int(low), min(slide.levels[number].height, int(np.ceil(high)))
        pixels = Image.fromarray(slide.read(number, left, first, right - left, last - first))
        part = (box[0] - left, low - first, min(box[2], right) - left, min(high, last) - first)
        strips.append(np.asarray(pixels.resize((size[0], end - top), how, box=part)))
    return np.concatenate(strips)
