"""What a folder of masks holds of a slide, facts/<slide>.json: where its mask is, and what to judge it by.

<slide>.geojson      the mask, an annotation of class Tissue a piece, level-0 pixels, as QuPath opens it
png/<slide>.png      the same, 255 where tissue is, if it was asked for
thumbs/<slide>.jpg   the slide, its tissue outlined
facts/<slide>.json   this, written last
failed/<slide>.json  why a slide has none
tissue.html          the page
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pathprep.dataset.schema import sha256
from pathprep.params.notes import in_words
from pathprep.storage.json_files import read_json
from pathprep.storage.seals import Seal, seal_of, write_sealed

FOLDERS = ("facts", "thumbs", "failed", "png")
LITTLE = 0.01  # share of a slide
MANY = 50  # pieces
MUCH = 0.05  # of the area that stays
WORDS = {
    "little_tissue": "less than 1 % of the slide is tissue",
    "no_glass": "no glass in view: tissue is what is stained on average",
    "pieces": f"more than {MANY} pieces: shreds, or dust and ink that were taken for tissue",
    "small_pieces": "pieces of tissue were left out for their size, a twentieth of all or more (--min-piece)",
}


@dataclass(frozen=True, kw_only=True)
class Outlined:
    """The mask of a slide.

    Attributes:
        build_id: of the settings. inputs: what it was made from (SlideSource.inputs). path: of the slide.
        mpp: micrometres per level-0 pixel. width, height: level-0 pixels. share: of the slide that is tissue.
        area: square millimetres of tissue. pieces: of tissue. small: those left out for their size.
        classes: share of the slide of each class of a tissue model. notes: codes of WORDS, or slides.unlike.
        mask: SHA-256 of the GeoJSON as it was written.
    """

    slide: str
    build_id: str
    inputs: Mapping[str, Any]
    path: str
    mpp: float
    width: int
    height: int
    share: float
    area: float
    pieces: int
    small: int
    classes: Mapping[str, float]
    notes: tuple[str, ...]
    mask: str

    def warnings(self) -> list[str]:
        """The notes as sentences."""
        return [WORDS.get(note) or in_words(note) for note in self.notes]

    def is_edited(self, root: Path) -> bool:
        """Whether somebody has changed the mask since; it is theirs then."""
        try:
            return sha256(root / f"{self.slide}.geojson") != self.mask
        except FileNotFoundError:
            return False

    def facts(self, root: Path) -> dict[str, Any]:
        """As `--json` gives them."""
        values = {
            key: value for key, value in asdict(self).items() if key not in ("inputs", "build_id", "mask")
        }
        return {**values, "notes": list(self.notes), "edited": self.is_edited(root)}


def write(root: Path, made: Outlined) -> None:
    """Commit a slide's mask."""
    write_sealed(root / "facts" / f"{made.slide}.json", {**asdict(made), "notes": list(made.notes)})


def read(root: Path, slide: str) -> Outlined | None:
    """What is committed of a slide; None if it is not, or damaged, or its mask or thumbnail is gone."""
    values = read_json(root / "facts" / f"{slide}.json")
    if values is None or seal_of(values) is not Seal.WHOLE:
        return None
    try:
        made = Outlined(
            **{k: v for k, v in values.items() if k != "seal"} | {"notes": tuple(values["notes"])}
        )
    except (KeyError, TypeError):
        return None
    whole = (root / f"{slide}.geojson").is_file() and (root / "thumbs" / f"{slide}.jpg").is_file()
    return made if whole else None
