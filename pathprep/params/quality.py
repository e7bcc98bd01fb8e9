"""Quality filters: which tiles are dropped, and why; each is counted once, under the first rule it fails."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, NamedTuple

from pathprep.errors import UsageError
from pathprep.params.settings import Setting, is_share
from pathprep.params.tissue_model import COLUMN

PANEL = "Quality"


class Rule(NamedTuple):
    """A filter: ``reason`` is what a dropped tile is counted under.

    Attributes:
        figure: what is compared, one of FIGURES. parameter: its threshold in QcParams.
        least: whether the threshold is the least allowed value, or the largest.
    """

    reason: str
    figure: str
    parameter: str
    least: bool

    @property
    def option(self) -> str:
        """The command-line option of `pathprep shard`, for pages."""
        return f"--{self.parameter.replace('_', '-')}"


RULES = (
    Rule("blurred", "focus", "min_focus", True),
    Rule("pen", "pen", "max_pen", False),
    Rule("white", "white", "max_white", False),
    Rule("hsv", "hsv", "min_hsv", True),
)
REASONS = tuple(rule.reason for rule in RULES)


@dataclass(frozen=True)
class QcParams:
    """Thresholds of the filters; None leaves one out. A tile at its threshold stays.

    Attributes:
        min_focus: variance of the Laplacian, grey levels squared; it depends on scanner and MPP.
        max_pen: share of pixels with the colour of a pen's ink.
        max_white: share of white pixels.
        min_hsv: share of pixels with the hue, saturation and value that Virchow and Midnight ask of 0.6.
        max_share: largest shares of classes of the tissue model, as in ``pen=0.1,fold=0.3``; in the order of
            names, whatever the order that they were given in.
    """

    min_focus: Annotated[
        float | None,
        Setting(
            "Drop tiles less sharp: variance of the Laplacian, grey levels squared. It differs between "
            "scanners; choose it in the report.",
            PANEL,
        ),
    ] = None
    max_pen: Annotated[
        float | None, Setting("Drop tiles with a larger share of pen marks, such as 0.1.", PANEL)
    ] = None
    max_white: Annotated[
        float | None, Setting("Drop tiles with a larger share of white, such as 0.8.", PANEL)
    ] = None
    min_hsv: Annotated[
        float | None,
        Setting(
            "Drop tiles with a smaller share of H 90-180, S 8-255, V 103-255 (Virchow, Midnight: 0.6).", PANEL
        ),
    ] = None

    max_share: Annotated[
        str | None,
        Setting(
            "Drop tiles with a larger share of a class of the `tissue_model`, such as pen=0.1,fold=0.3.",
            PANEL,
            metavar="CLASS=SHARE[,...]",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.max_share is not None:
            given = sorted(self.shares().items())
            object.__setattr__(self, "max_share", ",".join(f"{name}={most:g}" for name, most in given))
        for rule in RULES:
            value = getattr(self, rule.parameter)
            if value is None:
                continue
            if rule.figure == "focus":
                if not 0 <= value < float("inf"):
                    raise UsageError(f"`{rule.parameter}` is a variance: 0 or more")
            elif not is_share(value):
                raise UsageError(f"`{rule.parameter}` is a share: 0 to 1")

    def shares(self) -> dict[str, float]:
        """Largest share of each class that has one.

        Raises:
            UsageError: ``max_share`` is not understood.
        """
        found = dict[str, float]()
        for part in (self.max_share or "").split(",") if self.max_share is not None else ():
            name, _, text = (each.strip() for each in part.partition("="))
            try:
                most = float(text)
            except ValueError:
                most = -1.0
            if not name or name in found or not is_share(most):
                raise UsageError(
                    f"`max_share` is {self.max_share!r}; expected shares of classes: pen=0.1,fold=0.3"
                )
            found[name] = most
        return found

    def reasons(self) -> list[str]:
        """What dropped tiles are counted under, by the filters that are on."""
        return [*(rule.reason for rule, _ in self.rules()), *(f"{COLUMN}{name}" for name in self.shares())]

    def as_dict(self) -> dict[str, Any]:
        """The thresholds that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def rules(self) -> list[tuple[Rule, float]]:
        """The filters that are on, in the order in which they count, with their thresholds."""
        set_ = self.as_dict()
        return [(rule, set_[rule.parameter]) for rule in RULES if rule.parameter in set_]


def was_dropped(reason: str) -> bool:
    """Whether a count is of tiles that a quality filter dropped."""
    return reason in REASONS or reason.startswith(COLUMN)


def in_words(values: dict[str, Any]) -> str:
    """The thresholds (``QcParams.as_dict``) as a person would say them."""
    words = {
        "min_focus": "a focus below {:g}",
        "max_pen": "more than {:.3g} % pen",
        "max_white": "more than {:.3g} % white",
        "min_hsv": "less than {:.3g} % of its pixels in the HSV box",
    }
    said = [
        f"{words[name].format(value if name == 'min_focus' else 100 * value)} (--{name.replace('_', '-')})"
        for name, value in values.items()
        if name in words
    ]
    if values.get("max_share"):
        most = str(values["max_share"]).replace("=", " above ").replace(",", " or ")
        said.append(f"a share of {most} (--max-share)")
    return f"A tile is dropped for {', or '.join(said)}." if said else "No tile was dropped for its quality."
