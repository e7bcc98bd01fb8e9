"""Data sets whose classes and windows are published, and what their files call the classes."""

from dataclasses import dataclass

from pathtrain.data.segmented.shapes import IGNORE


@dataclass(frozen=True)
class Preset:
    """A published data set.

    Attributes:
        classes: names from 1 on.
        names: what files call them, in small letters -> class, or IGNORE.
        window: side of published windows in the images' pixels; None: the images as they are.
        crops: whether it is published with random crops, tested on the central square.
        mpp: micrometres a pixel.
        source: of these values.
    """

    classes: tuple[str, ...]
    names: dict[str, str]
    window: int | None
    crops: bool
    mpp: float
    source: str


_CONSEP = ("other", "inflammatory", "epithelial", "spindle-shaped")
_MONUSAC = ("epithelial", "lymphocyte", "neutrophil", "macrophage")
_PANNUKE = ("neoplastic", "inflammatory", "connective", "dead", "epithelial")

PRESETS = {
    # values 3 and 4 are healthy and malignant epithelium; 5, 6, 7 fibroblasts, muscle, endothelium
    "consep": Preset(
        _CONSEP,
        dict(zip("1234567", [_CONSEP[place] for place in (0, 1, 2, 2, 3, 3, 3)], strict=True)),
        250,
        False,
        0.25,
        "Graham et al. 2019, HoVer-Net; windows and classes of kaiko eva",
    ),
    "monusac": Preset(
        _MONUSAC,
        {name: name for name in _MONUSAC} | {"ambiguous": IGNORE},
        None,
        True,
        0.25,
        "Verma et al. 2021; crops of kaiko eva",
    ),
    "monuseg": Preset(
        ("nucleus",),
        {"object": "nucleus", "1": "nucleus", "255": "nucleus"},
        250,
        False,
        0.25,
        "Kumar et al. 2020",
    ),
    "pannuke": Preset(
        _PANNUKE,
        {str(place): name for place, name in enumerate(_PANNUKE, start=1)},
        256,
        False,
        0.25,
        "Gamper et al. 2020",
    ),
}


def meant(words: str) -> dict[str, str]:
    """What a ``classes`` setting says: what files call a class, in small letters -> its name, in order.

    ``tumour,stroma`` are the values 1 and 2; ``3=tumour,#00ff00=stroma,5=ignored`` any.
    """
    parts = [part.strip() for part in words.split(",") if part.strip()]
    if not any("=" in part for part in parts):
        return {str(value): name for value, name in enumerate(parts, start=1)}
    pairs = [[side.strip() for side in part.partition("=")[::2]] for part in parts]
    return {called.lower(): name for called, name in pairs}
