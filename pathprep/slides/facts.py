"""What is decided about a slide before its first tile is cut, and from what; for marker and inspect alike."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from pathprep.slides.mpp.settle import DEFAULT_MPP, OVERRIDE, Mpp, others

if TYPE_CHECKING:
    from pathprep.slides.slide import Slide


@dataclass(frozen=True)
class Decision:
    """One thing that was decided.

    Attributes:
        value: as JSON has it; None if it could not be decided.
        source: where it comes from, in words.
        others: what else the file says about it, and what was made of that.
    """

    value: Any
    source: str
    others: tuple[str, ...] = ()

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Decision":
        """What ``as_dict`` gave.

        Raises:
            KeyError, TypeError: it is not that.
        """
        return Decision(values["value"], values["source"], tuple(values.get("others", ())))

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it; without ``others`` if there are none."""
        values = {"value": self.value, "source": self.source}
        return values | ({"others": list(self.others)} if self.others else {})


@dataclass(frozen=True)
class Facts:
    """Everything that is decided about a slide.

    Attributes:
        mpp: micrometres per level-0 pixel. levels: size and true downsample of each, level 0 first.
        colour: what the samples are. origin: what tiles count from, and the part that was scanned.
        name: in a dataset.
    """

    mpp: Decision
    levels: Decision
    colour: Decision
    origin: Decision
    name: Decision

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {each.name: getattr(self, each.name).as_dict() for each in fields(self)}

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Facts":
        """What ``as_dict`` gave.

        Raises:
            KeyError, TypeError: it is not that.
        """
        return Facts(**{each.name: Decision.of(values[each.name]) for each in fields(Facts)})


def decide(slide: "Slide", mpp: Mpp | None, name: str, own_name: str) -> Facts:
    """The decisions about an open slide.

    Args:
        mpp: as settled; None if it cannot be used. name: in the dataset. own_name: the slide's own.
    """
    return Facts(
        _mpp(slide, mpp), _levels(slide), _colour(slide), _origin(slide), _name(slide, name, own_name)
    )


def _mpp(slide: "Slide", mpp: Mpp | None) -> Decision:
    if mpp is None:
        return Decision(None, "", tuple(map(str, slide.stated_mpp)))
    source = next(
        (f"{each.source}: {each.quote}" for each in slide.stated_mpp if each.source == mpp.source), ""
    )
    if mpp.source == OVERRIDE:
        source = "the mpp column of the CSV of slides"
    elif mpp.source == DEFAULT_MPP:
        source = f"{DEFAULT_MPP}, as the file states none"
    return Decision(mpp.value, source, tuple(others(slide.stated_mpp, mpp)))


def _levels(slide: "Slide") -> Decision:
    value = [{"width": w, "height": h, "downsample": d} for w, h, d in slide.levels]
    notes = tuple(f"level {number}: {note}" for number, note in enumerate(slide.notes) if note)
    return Decision(value, f"sizes that the file declares, read by {slide.reader}", notes)


def _colour(slide: "Slide") -> Decision:
    return Decision("RGB of 8 bits", slide.colour)


def _origin(slide: "Slide") -> Decision:
    bounds = None if slide.bounds is None else list(slide.bounds)
    source = "the file states the part that was scanned" if bounds else "the file states no smaller part"
    return Decision({"origin": "slide", "bounds": bounds}, source)


def _name(slide: "Slide", name: str, own_name: str) -> Decision:
    source = "dicom.SeriesInstanceUID" if slide.vendor == "dicom" else "the file's name"
    return Decision({"name": name, "own_name": own_name}, source)
