"""Plain sections: a picture, a table of counts, and the places of the spots on the picture.

    FOLDER/sections.csv          section, patient, picture, counts, spots and perhaps mpp; files lie in FOLDER

or the folders that the pipeline of Spatial Transcriptomics leaves (her2st and others publish them so):

    FOLDER/ST-imgs/<patient>/<section>/<picture>
    FOLDER/ST-cnts/<section>.tsv.gz
    FOLDER/ST-spotfiles/<section>_selection.tsv

The table of places has pixel_x and pixel_y, and the spot's name: a column spot or barcode, or x and y, which
make the name 10x14. Tiles of 112 um are cut around each spot and resized to 224 px, 0.5 MPP. The picture's
MPP is stated, or follows from the distance of the spots: x and y count in steps of the array, 200 um in ST.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pathprep.errors import DatasetError, UsageError
from pathprep.images import jpeg, pictures
from pathprep.storage import regular, tables
from pathtrain.evaluate.expression.count_table import CountTable
from pathtrain.evaluate.expression.spots import SIDE, TILE_UM, Section
from pathtrain.evaluate.statistics import Doubles
from pathtrain.images import Pixels, resize

TABLE = "sections.csv"
IMAGES, COUNTS, SPOTS = "ST-imgs", "ST-cnts", "ST-spotfiles"
PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
ST_PITCH_UM = 200.0
MOST_PIXELS, MOST_BYTES = 1 << 28, 1 << 30  # of a picture: 16,384 x 16,384 are 800 MB of memory
COARSEST, FINEST = 4.0, 0.1  # MPP; beyond, 112 um are fewer than 28 px, or the number is no MPP
SAME = 0.1  # share by which two statements of an MPP may differ


@dataclass(frozen=True)
class Stated:
    """What is known of a section before its files are opened.

    Attributes:
        mpp: of the picture; None: by the spots' distance. pitch: of the array, um; None if unknown.
    """

    name: str
    patient: str
    picture: Path
    counts: Path
    spots: Path
    mpp: float | None
    pitch: float | None


def is_plain(path: Path) -> bool:
    """Whether a folder holds plain sections."""
    return (path / TABLE).is_file() or (path / COUNTS).is_dir()


def stated(path: Path, pitch: float | None, mpp: float | None) -> list[Stated]:
    """The sections of a folder, by name.

    Args:
        pitch, mpp: what is asked for; what the table says of an MPP goes before.

    Raises:
        UsageError: the table cannot be read, names a section twice, or a file is missing.
        DatasetError: a section's picture or places are missing.
    """
    found = _table(path, pitch, mpp) if (path / TABLE).is_file() else _st(path, pitch, mpp)
    for each in found:
        for file in (each.picture, each.counts, each.spots):
            if not file.is_file():
                raise DatasetError(f"{file}: not there, section {each.name} needs it; take the section out")
    return sorted(found, key=lambda each: each.name)


def _table(path: Path, pitch: float | None, mpp: float | None) -> list[Stated]:
    table = tables.read(path / TABLE, ("section", "picture", "counts", "spots"), any_case=True)
    patients = table.columns.get("patient", [""] * len(table))
    mpps = table.columns.get("mpp", [""] * len(table))
    names = table.columns["section"]
    if len(set(names)) < len(names):
        raise UsageError(f"{path / TABLE}: a section is there twice; keep one row of each")
    found = []
    for row, name in enumerate(names):
        picture, counts, spots = (path / table.columns[key][row] for key in ("picture", "counts", "spots"))
        try:
            own = float(mpps[row]) if mpps[row] else mpp
        except ValueError:
            raise UsageError(f"{table.at(row)}: mpp {mpps[row]} is no number; give um per pixel") from None
        found.append(Stated(name, patients[row], picture, counts, spots, own, pitch))
    return found


def _st(path: Path, pitch: float | None, mpp: float | None) -> list[Stated]:
    found = []
    for counts in sorted((path / COUNTS).glob("*.tsv*")):
        name = counts.name.partition(".")[0]
        folders = sorted((path / IMAGES).glob(f"*/{name}"))
        files = [file for folder in folders for file in sorted(folder.iterdir())]
        images = [file for file in files if file.suffix.lower() in PICTURES and file.name[0] != "."]
        if len(images) != 1:
            raise DatasetError(
                f"{path / IMAGES}: {len(images)} pictures of section {name} (<patient>/{name}/); needs one"
            )
        spots = path / SPOTS / f"{name}_selection.tsv"
        patient = folders[0].parent.name
        found.append(Stated(name, patient, images[0], counts, spots, mpp, pitch or ST_PITCH_UM))
    if not found:
        raise DatasetError(f"{path / COUNTS}: holds no .tsv or .tsv.gz; copy the counts there")
    return found


class PlainSection(Section):
    """A section whose tiles are cut from its picture when they are asked for.

    Attributes:
        mpp: of the picture, and ``mpp_from`` what says so.
        counts: its table of counts.
    """

    def __init__(self, about: Stated) -> None:
        """Read all but the picture's pixels.

        Raises:
            UsageError: the table of places cannot be read, or MPPs differ.
            DatasetError: counts or picture cannot be read, they share no spot, or none lies inside.
        """
        self.name, self.patient, self.source = about.name, about.patient, about.picture
        places, steps, unselected = _places(about.spots)
        self.counts = CountTable(about.counts, places)
        self.mpp, self.mpp_from = _mpp(about, places, steps)
        self.um = self.mpp
        self._picture: Pixels | None = None
        height, width = self._pixels().shape[:2]
        self.side = max(round(TILE_UM / self.mpp), 1)
        self.spots, kept, edge = [], [], 0
        for spot in self.counts.spots.tolist():
            if spot not in places:
                continue
            left, top = self._corner(places[spot])
            if 0 <= left <= width - self.side and 0 <= top <= height - self.side:
                self.spots.append(spot)
                kept.append(places[spot])
            else:
                edge += 1
        if not kept:
            raise DatasetError(
                f"{about.spots}: no spot's tile of {self.side} px lies inside {about.picture.name} "
                f"({width} x "
                f"{height} px); are the places those of another size of the picture?"
            )
        self.places: Doubles = np.array(kept, dtype=np.float64)
        self.left_out = {
            "at the edge of the picture": edge,
            "no place": len(self.counts.spots) - len(kept) - edge,
            "no counts": len(set(places) - set(self.counts.spots.tolist())),
            "not selected": unselected,
        }

    def _corner(self, place: tuple[float, float] | Doubles) -> tuple[int, int]:
        left, top = (round(float(each) - self.side / 2) for each in place)
        return left, top

    def _pixels(self) -> Pixels:
        if self._picture is None:
            self._picture = _decoded(self.source)
        return self._picture

    def tile(self, spot: int) -> Pixels:
        left, top = self._corner(self.places[spot])
        part = self._pixels()[top : top + self.side, left : left + self.side]
        return resize(np.ascontiguousarray(part), SIDE)

    def close(self) -> None:
        self._picture = None


def _decoded(path: Path) -> Pixels:
    try:
        data = regular.read(path, MOST_BYTES)
        return jpeg.decode(data, _check) if data[:2] == b"\xff\xd8" else pictures.decode(data, _check)
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or error
        raise DatasetError(
            f"{path}: cannot be decoded ({words}); save it as JPEG, PNG or TIFF of RGB"
        ) from None


def _check(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width:,} x {height:,} px, at most {MOST_PIXELS:,} pixels are read")


Places = dict[str, tuple[float, float]]


def _places(path: Path) -> tuple[Places, Doubles | None, int]:
    """Spot -> pixel_x, pixel_y; (N, 2) their steps of the array, if the table has them; and how many are not
    selected, which are left out."""
    table = tables.read(path, ("pixel_x", "pixel_y"), any_case=True)
    columns = table.columns
    name = next((columns[key] for key in ("spot", "barcode") if key in columns), None)
    stepped = "x" in columns and "y" in columns
    if name is None and not stepped:
        raise UsageError(
            f"{path}: needs a column spot or barcode, or x and y, that name the spots; {table.has()}"
        )
    selected = columns.get("selected", ["1"] * len(table))
    places: Places = {}
    steps, unselected = [], 0
    # where a spot came to lie on the array, if that was measured: closer to its place than the whole number
    keys = ("new_x", "new_y") if "new_x" in columns and "new_y" in columns else ("x", "y")
    for row in range(len(table)):
        if selected[row] in ("0", "False", "false", "FALSE"):
            unselected += 1
            continue
        spot = f"{columns['x'][row]}x{columns['y'][row]}" if name is None else name[row]
        if spot in places:
            raise UsageError(f"{table.at(row)}: spot {spot} is there twice; keep one row of each")
        try:
            places[spot] = float(columns["pixel_x"][row]), float(columns["pixel_y"][row])
            steps += [[float(columns[key][row]) for key in keys]] if stepped else []
        except ValueError:
            raise UsageError(f"{table.at(row)}: a place is no number; give pixels of the picture") from None
    if not places:
        raise UsageError(f"{path}: no spot is selected; set `selected` to 1, or leave the column out")
    return places, np.array(steps) if stepped else None, unselected


def _mpp(about: Stated, places: Places, steps: Doubles | None) -> tuple[float, str]:
    """The picture's MPP and what says so.

    Raises:
        UsageError: nothing says it, it is none, or the picture's and the spots' differ.
    """
    by_pitch = None
    if about.pitch is not None and steps is not None and len(steps) > 2:
        pixels = np.array(list(places.values()))
        step = [abs(float(np.polyfit(steps[:, axis], pixels[:, axis], 1)[0])) for axis in (0, 1)]
        if min(step) <= 0 or abs(step[0] / step[1] - 1) > SAME:
            raise UsageError(
                f"{about.spots}: a step of x is {step[0]:.1f} px, of y {step[1]:.1f}: no square array; state "
                "the picture's mpp (`picture_mpp`, or a column of sections.csv)"
            )
        by_pitch = about.pitch / float(np.mean(step))
    found = about.mpp if about.mpp is not None else by_pitch
    if found is None:
        raise UsageError(
            f"{about.picture}: at what MPP is it? State it with `picture_mpp` or in sections.csv, or give "
            "`pitch_um` and spots with x and y"
        )
    if by_pitch is not None and abs(found / by_pitch - 1) > SAME:
        raise UsageError(
            f"{about.picture}: {found:g} MPP is stated, but spots {about.pitch:g} um apart make it "
            f"{by_pitch:.3g}; correct the mpp, or `pitch_um`"
        )
    if not FINEST <= found <= COARSEST:
        raise UsageError(
            f"{about.picture}: {found:.3g} MPP: 112 um are cut at {FINEST:g} to {COARSEST:g} MPP; "
            "correct the "
            "mpp, or `pitch_um`"
        )
    stated = about.mpp is not None
    return found, "stated" if stated else f"spots {about.pitch:g} um apart"
