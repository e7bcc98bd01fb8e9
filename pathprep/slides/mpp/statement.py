"""What a file says about its resolution in one place."""

from dataclasses import dataclass

from pathprep.slides.mpp.figures import NotUnderstood, micrometres, shown


@dataclass(frozen=True)
class Statement:
    """A resolution that a file states, or fails to.

    Attributes:
        source: where it stands. quote: what stands there.
        x, y: micrometres per pixel; None if it says nothing or is not understood.
        problem: why a figure is not understood. note: why it says nothing, or what was made of it.
        weak: a resolution for a printer; it is not compared with one from another place.
        guesses: MPPs that what is not understood may mean; a default that is one of them confirms it.
    """

    source: str
    quote: str
    x: float | None = None
    y: float | None = None
    problem: str = ""
    note: str = ""
    weak: bool = False
    guesses: tuple[float, ...] = ()

    @property
    def understood(self) -> bool:
        """Whether it is a resolution."""
        return self.x is not None and self.y is not None

    def __str__(self) -> str:
        words = f"{self.source}: {self.quote}"
        if self.x is not None and self.y is not None:
            figures = (
                f"{self.x:.4g}" if f"{self.x:.4g}" == f"{self.y:.4g}" else f"{self.x:.4g} x {self.y:.4g}"
            )
            words += f" ({figures} MPP)"
        reason = self.problem or self.note
        return f"{words}, {reason}" if reason else words


def read(
    source: str,
    key: str,
    x: str | None,
    y: str | None,
    usual: str | None,
    units: tuple[str | None, str | None] = (None, None),
) -> Statement | None:
    """What one or two figures state.

    Args:
        key: what the figure is called in the file.
        x, y: as they stand; None where there is none. usual: unit of figures without any.
        units: that the file states for x and y beside them.
    """
    given = [(text, unit) for text, unit in zip((x, y), units, strict=True) if text is not None]
    if not given:
        return None
    said = "" if usual == "µm" else usual or ""
    texts = [shown(f"{text.strip()} {unit or said}".strip(), 40) for text, unit in given]
    quote = f"{key} = {texts[0]}" if len(set(texts)) == 1 else f"{key} = {' x '.join(texts)}"
    if not any(text.strip() for text, _ in given):
        return Statement(source, f"{key} =", note="which is empty")
    try:
        lengths = [micrometres(text, unit, usual) for text, unit in given]
    except NotUnderstood as error:
        return Statement(source, quote, problem=str(error))
    if None in lengths:
        if any(lengths):
            return Statement(source, quote, problem="one of its units is no length")
        return Statement(source, quote, note="which says nothing about length")
    note = "for one side only, taken for both" if y is None or x is None else ""
    return Statement(source, quote, lengths[0], lengths[-1], note=note)
