"""A tissue model as it is described: an ONNX file, and what must be known to run it.

The description stands in a YAML file beside the model (``model.yaml`` beside ``model.onnx``), or in its
metadata under the key ``pathprep``, the same YAML as a text. The file beside it wins.
"""

import importlib.util
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pathprep.errors import UsageError
from pathprep.params import onnx_file

INSTALL = "pip install 'pathprep[onnx]'"
KEY = "pathprep"  # of the metadata
GLASS = ("background", "glass")  # names of classes that are neither tissue nor anything to count
COLUMN = "share_"  # before a class's name: its column in the index
Output = Literal["logits", "probabilities", "classes"]
Channels = Literal["rgb", "bgr"]
Layout = Literal["nchw", "nhwc"]
_NAME = re.compile("[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class TissueModel:
    """A model, without the place of its file.

    Attributes:
        sha256: of the file, and of those that its weights lie in.
        mpp: micrometres per pixel of its input. size: side of its input, pixels.
        overlap: pixels at each side of the input whose output is not used.
        classes: their names, in the order of the output; ``background`` or ``glass`` first or anywhere.
        tissue: those that are tissue.
        output: logits (softmax is taken; the sigmoid of a single one), probabilities, or numbers of classes.
        threshold: tissue is where the probabilities of ``tissue`` add up to so much.
        mean, sd: of the channels, of values from 0 to 1.
        channels, layout: of the input. name: of the output; "" for the first.
        path: where the file is; no part of what it is.
    """

    sha256: str
    mpp: float
    size: int
    classes: tuple[str, ...]
    tissue: tuple[str, ...] = ("tissue",)
    overlap: int = 0
    output: Output = "logits"
    threshold: float = 0.5
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sd: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: Channels = "rgb"
    layout: Layout = "nchw"
    name: str = ""
    path: Path | None = field(default=None, compare=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """Classes whose share of each tile the index has: all but the glass, and ``tissue``, which it has."""
        return tuple(each for each in self.classes if each not in (*GLASS, "tissue"))

    def as_dict(self) -> dict[str, Any]:
        """What is written and hashed."""
        values = asdict(self)
        del values["path"]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def recorded(cls, values: Mapping[str, Any]) -> Self:
        """What ``as_dict`` gave.

        Raises:
            KeyError, TypeError: it is another version's.
        """
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**given)


def check_installed() -> None:
    """Refuse a model where nothing can run it.

    Raises:
        UsageError: with the command that installs it.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise UsageError(f"`tissue_model` needs ONNX Runtime: {INSTALL} (or onnxruntime-gpu for a card)")


def read(path: Path) -> TissueModel:
    """A model's file and its description.

    Raises:
        UsageError: one of them is absent, damaged or not understood; it names the file, the key and the fix.
            Or ONNX Runtime is not installed.
    """
    check_installed()
    found = onnx_file.read(path)
    beside = next((each for end in (".yaml", ".yml") if (each := path.with_suffix(end)).is_file()), None)
    if beside is not None:
        try:
            text, place = beside.read_text("utf-8"), str(beside)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{beside}: cannot be read ({error})") from None
    elif KEY in found.metadata:
        text, place = found.metadata[KEY], f"{path} (metadata `{KEY}`)"
    else:
        raise UsageError(
            f"{path}: nothing says what it takes and gives; write {path.with_suffix('.yaml').name} beside "
            "it, with `mpp`, `size` and `classes` (docs: Tissue models)"
        )
    return described(text, place, found.sha256, path)


def described(text: str, place: str, sha256: str, path: Path | None = None) -> TissueModel:
    """The model that a description is of.

    Args:
        text: YAML. place: where it stands, for messages.

    Raises:
        UsageError: it is not understood.
    """
    import yaml

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{place}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise UsageError(f"{place}: expected keys and values, such as `mpp: 8`")
    known = {each.name for each in fields(TissueModel)} - {"sha256", "path"}
    for key in values:
        if key not in known:
            raise UsageError(f"{place}: `{key}`: no such key; there are {', '.join(sorted(known))}")
    for key in ("mpp", "size", "classes"):
        if key not in values:
            raise UsageError(f"{place}: `{key}` is missing")
    made: dict[str, Any] = {key: _value(key, value, place) for key, value in values.items()}
    model = TissueModel(sha256=sha256, path=path, **made)
    _check(model, place)
    return model


def _value(key: str, value: Any, place: str) -> Any:
    """A value as its field has it."""
    choices = {"output": Output, "channels": Channels, "layout": Layout}
    numbers = {"mpp": 1, "threshold": 1, "mean": 3, "sd": 3}
    wrong = UsageError(f"{place}: `{key}` is {value!r}")
    if key in choices:
        if value not in get_args(choices[key]):
            raise UsageError(f"{place}: `{key}` is {value!r}; expected {', '.join(get_args(choices[key]))}")
        return value
    if key in ("size", "overlap"):
        if type(value) is not int:
            raise UsageError(f"{wrong}; expected a whole number of pixels")
        return value
    if key in numbers:
        several = value if isinstance(value, list) else [value]
        if len(several) != numbers[key] or not all(
            type(v) in (int, float) and math.isfinite(v) for v in several
        ):
            raise UsageError(f"{wrong}; expected {'a number' if numbers[key] == 1 else 'three numbers'}")
        return tuple(map(float, several)) if numbers[key] == 3 else float(value)
    if key == "name":
        if not isinstance(value, str):
            raise UsageError(f"{wrong}; expected the name of an output")
        return value
    if not isinstance(value, list) or not all(isinstance(v, str) and _NAME.fullmatch(v) for v in value):
        raise UsageError(
            f"{wrong}; expected a list of names in small letters, such as [background, tissue, pen]"
        )
    return tuple(value)


def _check(model: TissueModel, place: str) -> None:
    rules = {
        "`mpp` must be 0.1 to 64": 0.1 <= model.mpp <= 64,
        "`size` must be 16 to 4096": 16 <= model.size <= 4096,
        "`overlap` must be 0 to less than half of `size`": 0 <= 2 * model.overlap < model.size,
        "`threshold` must be above 0 and below 1": 0 < model.threshold < 1,
        "`sd` must be above 0": min(model.sd) > 0,
        "`classes` must be two to fifty different names": (
            2 <= len(model.classes) <= 50 and len(set(model.classes)) == len(model.classes)
        ),
        f"`tissue` must name some of `classes` ({', '.join(model.classes)}), and not all": (
            0 < len(set(model.tissue)) < len(model.classes) and set(model.tissue) <= set(model.classes)
        ),
    }
    for message, holds in rules.items():
        if not holds:
            raise UsageError(f"{place}: {message}")
