"""The dataset's page: complete, self-contained, readable in a real browser, honest about what is missing."""

import base64
import io
import json
import re
import shutil
import signal
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from helpers.browser import check_page
from helpers.slides import tissue, write_tiff
from PIL import Image

from pathprep import stain
from pathprep.dataset.marker import sealed
from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError, UsageError
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainMode, StainParams
from pathprep.reports import contact_sheet as report_contact
from pathprep.reports import measure as report_measure
from pathprep.reports import page as report_module
from pathprep.reports import slide_pictures as report_slides
from pathprep.reports import slide_pixels as report_before
from pathprep.reports import stain_outliers as report_stain
from pathprep.reports import words as report_words
from pathprep.reports.measure import Measured
from pathprep.reports.page import report
from pathprep.reports.slide_pixels import Wanted
from pathprep.sharding import run
from pathprep.slides import find as sources
from pathprep.tiles import jpeg

SIDE = 64  # of the tiles of these datasets
Shard = Callable[[StainMode], Path]


def patchy(seed: int) -> npt.NDArray[np.uint8]:
    """Two stains with glass around, and a square of one flat colour, whose stains cannot be told."""
    pixels = tissue(384, 512, seed, margin=64)
    pixels[128:256, 128:256] = (200, 120, 180)
    return pixels


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides: two good ones, one without MPP, one of glass, and one that is none, with a name to escape."""
    folder = tmp_path_factory.mktemp("archive")
    write_tiff(folder / "first.tif", patchy(1))
    write_tiff(folder / "second.tif", tissue(384, 512, 2))
    write_tiff(folder / "third.tif", patchy(3), mpp=None)
    write_tiff(folder / "glass.tif", np.full((256, 256, 3), 245, np.uint8))
    (folder / "<b>bold<b>.tif").write_bytes(b"not a slide")
    return folder


def make(archive: Path, out: Path, mode: StainMode = "bake") -> Path:
    params = ShardParams(tile=SIDE, region=SIDE, default_mpp=0.5, stain=StainParams(mode))
    run.shard(sources.find([archive]), out, params, workers=2)
    return out


@pytest.fixture(scope="module")
def made(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Shard:
    """Datasets of the archive by stain mode, made once."""
    done: dict[str, Path] = {}

    def get(mode: StainMode) -> Path:
        if mode not in done:
            done[mode] = make(archive, tmp_path_factory.mktemp("made") / mode, mode)
        return done[mode]

    return get


@pytest.fixture
def dataset(made: Shard, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(made("bake"), tmp_path / "dataset")


class Reader(HTMLParser):
    """Collects pictures, addresses and text."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            self.pictures.append(values)
        self.addresses += [value for key, value in attrs if key in ("src", "href", "xlink:href") and value]

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("b", "i", "small", "code"):
            self.text += " "


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text())
    reader.text = " ".join(reader.text.split())
    return reader


def pixels_of(uri: str) -> npt.NDArray[np.int64]:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"), np.int64)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, False), (390, True)])
def test_page_in_a_browser(made: Shard, tmp_path: Path, width: int, dark: bool) -> None:
    result = check_page(report(made("bake"), tmp_path / "page.html"), width, None, dark)
    assert result.errors == []
    assert result.external == []
    assert result.broken == []
    assert result.without_alt == 0
    assert result.overflow == 0
    assert (
        result.images > 4 + 2 * report_module.SAMPLE
    )  # overviews, the sample before and after, and odd tiles
    assert "<b>bold<b>.tif" in result.text  # shown as it is written, not as bold


@pytest.mark.browser
@pytest.mark.parametrize("mode", ["fit", "none"])
def test_other_modes_in_a_browser(made: Shard, tmp_path: Path, mode: StainMode) -> None:
    result = check_page(report(made(mode), tmp_path / "page.html"), 390, None)
    assert (result.errors, result.broken, result.without_alt, result.overflow) == ([], [], 0, 0)


def test_page_says_what_the_dataset_holds(made: Shard, tmp_path: Path) -> None:
    root = made("bake")
    page = read(report(root, tmp_path / "page.html"))
    markers = Dataset(root).markers
    borrowed = sum(marker["stain"].get("slide_fit", 0) for marker in markers.values())
    tiles = sum(marker["tiles"] for marker in markers.values())
    assert borrowed == 8
    for text in (
        "Slides done 4",
        "Slides failed 1",
        "Done, but without a tile 1",
        f"Tiles {tiles} ",
        Dataset(root).info["build_id"],
        "1 of 5 slides (20.0%) failed (UnreadableSlide 1)",
        f"{borrowed} of {tiles} tiles ({borrowed / tiles:.1%}) took their slide's stain fit",
        "The MPP of 1 of 4 slides (25.0%) was assumed",
        "64 px at 0.5 MPP (32 µm), without overlap",
        "tiles are stored normalised (--stain bake)",
        "no tile kept: no tissue was found",
        "Slides are not compared: fewer than 8 have a stain fit",
        f"dropped: no tissue {markers['first']['counts']['no_tissue']}",
        "Tiles without a stain fit of their own",
        "512 x 384 px",
    ):
        assert text in page.text, text
    assert page.addresses
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert all(picture["alt"] for picture in page.pictures)


def test_names_and_errors_are_shown_as_they_are(dataset: Path, tmp_path: Path) -> None:
    failed = next((dataset / "failed").glob("*.json"))
    entry = json.loads(failed.read_text())
    failed.write_text(json.dumps({**entry, "error": "<script>alert(1)</script>", "kind": '"><img src=x>'}))
    path = report(dataset, tmp_path / "page.html")
    assert "<script>alert" not in path.read_text()
    assert "<script>alert(1)</script>" in read(path).text
    assert all(picture["src"] != "x" for picture in read(path).pictures)


def test_most_suspicious_slides_come_first(
    made: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "MAX_SLIDES", 2)
    page = read(report(made("bake"), tmp_path / "page.html"))
    shown = [str(picture["alt"]) for picture in page.pictures if str(picture["alt"]).startswith("Overview")]
    assert shown == ["Overview of glass", "Overview of third"]
    assert "2 others are left out here and stand in the table below" in page.text
    table = page.text[page.text.index("to look at") :]
    assert all(name in table for name in ("first", "second", "third", "glass"))


def test_sheet_shows_tiles_before_and_after(made: Shard, archive: Path) -> None:
    dataset = Dataset(made("bake"))
    tiles = report_measure.measure(dataset, "second", 0, 3).sample
    shown = report_contact.sheet(dataset, tiles)
    assert shown.problems == {}
    original = tissue(384, 512, 2)
    for tile in tiles:
        before = original[tile.y : tile.y + SIDE, tile.x : tile.x + SIDE]
        after = jpeg.decode(dataset.read("second", tile.offset, tile.length))
        assert np.abs(pixels_of(shown.pairs[tile].before) - before).mean() < 8  # coded as JPEG twice
        assert np.abs(pixels_of(shown.pairs[tile].after) - after).mean() < 6
        assert np.abs(pixels_of(shown.pairs[tile].after) - before).mean() > 12
    dataset.close()


def test_sheet_applies_stored_fits(made: Shard) -> None:
    dataset = Dataset(made("fit"))
    tile = report_measure.measure(dataset, "second", 0, 1).sample[0]
    pair = report_contact.sheet(dataset, [tile]).pairs[tile]
    stored = jpeg.decode(dataset.read("second", tile.offset, tile.length))
    assert np.abs(pixels_of(pair.before) - stored).mean() < 6
    target = stain.Target.default()
    he, max_c = np.array(tile.he).reshape(3, 2), np.array(tile.max_c)
    matrix = target.he @ np.diag(target.max_c / max_c) @ np.linalg.pinv(he)
    density = -np.log((stored + 1.0) / 240)
    expected = np.clip(240 * np.exp(-density @ matrix.T), 0, 255)
    assert np.abs(pixels_of(pair.after) - expected).mean() < 6
    dataset.close()


def test_sheet_without_stain(made: Shard, tmp_path: Path) -> None:
    page = read(report(made("none"), tmp_path / "page.html"))
    assert "made without stain normalisation (--stain none)" in page.text
    assert "Stain was not measured" in page.text
    assert (
        len([picture for picture in page.pictures if "as stored" in str(picture["alt"])])
        == report_module.SAMPLE
    )


def test_slides_that_are_gone_or_changed(dataset: Path, tmp_path: Path) -> None:
    gone = str(tmp_path / "first.tif")
    for name, change in (("first", {"path": gone}), ("second", {"size": 1})):
        marker = json.loads((dataset / "slides" / f"{name}.json").read_text())
        marker["source"] |= change
        (dataset / "slides" / f"{name}.json").write_text(json.dumps(sealed(marker)))
    page = read(report(dataset, tmp_path / "page.html"))
    assert f"first: the slide file is no longer at {gone}" in page.text
    assert "second.tif has another size than when it was cut" in page.text
    alts = [str(picture["alt"]) for picture in page.pictures]
    for name, kinds in (("first", {"after"}), ("second", {"after"}), ("third", {"before", "after"})):
        assert {alt.rpartition(", ")[2] for alt in alts if f"of {name}," in alt} == kinds


def test_reader_that_crashes_costs_one_slide(archive: Path) -> None:
    source = {"path": str(archive / "second.tif"), "size": (archive / "second.tif").stat().st_size}
    # consumed in the child only, which it kills
    deadly = cast("list[tuple[int, int, int]]", map(signal.raise_signal, [signal.SIGKILL]))
    wanted = [
        Wanted("dies", source, "auto", deadly),
        Wanted("outside", source, "auto", [(4096, 0, 64)]),
        Wanted("lives", source, "auto", [(0, 0, 64), (64, 0, 128)]),
    ]
    dies, outside, lives = report_before.read(wanted, 64)
    assert "crashed on" in dies.problem
    assert "leaves level 0" in outside.problem
    assert (dies.pictures, outside.pictures, lives.problem) == ([], [], "")
    assert [picture.shape for picture in lives.pictures] == [(64, 64, 3), (64, 64, 3)]


def test_empty_dataset(tmp_path: Path) -> None:
    run.prepare(tmp_path / "dataset", ShardParams(), rebuild=False)
    page = read(report(tmp_path / "dataset", tmp_path / "page.html"))
    assert "No slide is done yet" in page.text
    assert page.pictures == []


def test_dataset_whose_slides_all_failed(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    for name in ("a.tif", "b.tif"):
        (tmp_path / "archive" / name).write_bytes(b"no")
    page = read(report(make(tmp_path / "archive", tmp_path / "dataset"), tmp_path / "page.html"))
    assert "2 of 2 slides (100.0%) failed (UnreadableSlide 2)" in page.text
    assert "a.tif" in page.text
    assert page.pictures == []


def test_dataset_of_glass(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    shutil.copy(archive / "glass.tif", tmp_path / "archive")
    page = read(report(make(tmp_path / "archive", tmp_path / "dataset"), tmp_path / "page.html"))
    for text in (
        "1 of 1 slide (100.0%) done, but without a single tile",
        "No tile has a stain fit of its own",
        "There is no tile to show",
        "No tissue contour",
    ):
        assert text in page.text
    assert [picture["alt"] for picture in page.pictures] == ["Overview of glass"]


def test_damaged_dataset(dataset: Path, tmp_path: Path) -> None:
    (dataset / "index" / "first.parquet").write_bytes(b"x")
    (dataset / "previews" / "second.jpg").unlink()
    damaged = bytearray((dataset / "index" / "third.parquet").read_bytes())
    damaged[:] = b"x" * len(damaged)
    (dataset / "index" / "third.parquet").write_bytes(damaged)  # of the right size, but unreadable
    stale = json.loads((dataset / "slides" / "glass.json").read_text())
    (dataset / "slides" / "glass.json").write_text(json.dumps({**stale, "build_id": "0" * 16}))
    page = read(report(dataset, tmp_path / "page.html"))
    for text in (
        "3 of 3 slides (100.0%) damaged on disk",
        "damaged: index/first.parquet is of another size than recorded",
        "damaged: previews/second.jpg is missing",
        "third.parquet: cannot be read",
        "The preview cannot be read: No such file or directory.",
        "1 slide of another build in the folder",
    ):
        assert text in page.text, text


def test_errors(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(DatasetError, match="not a dataset"):
        report(tmp_path, tmp_path / "page.html")
    with pytest.raises(UsageError, match="cannot be written"):
        report(dataset, dataset / "dataset.json" / "page.html")


def a_slide(name: str, *, tiles: int = 100, focus: float = 3.0, **changes: float) -> Measured:
    """A measured slide; ``changes``: stain vectors and strengths by name."""
    he = [changes.get("h_red", 0.55), 0.2, 0.7, 0.8, 0.4, 0.5]
    marker: dict[str, Any] = {
        "tiles": tiles,
        "counts": {"kept": tiles},
        "stain": {"fitted": tiles},
        "stain_fit": {"he": he, "max_c": [2.0, changes.get("eosin", 1.0)]},
        "mpp": 0.5,
        "mpp_source": "tags",
    }
    return Measured(name, marker, focus=focus)


def test_slides_unlike_the_others_are_flagged() -> None:
    rng = np.random.default_rng(0)
    usual = [a_slide(f"s{n}", h_red=0.55 + 0.01 * rng.standard_normal()) for n in range(12)]
    odd = [
        a_slide("red", h_red=0.75),
        a_slide("strong", eosin=2.0),
        a_slide("few", tiles=9),
        a_slide("blurred", focus=1.0),
    ]
    report_measure.flag([*usual, *odd])
    assert [slide.flags for slide in usual] == [[]] * 12
    assert [slide.flags[0][1].split(":")[0] for slide in odd] == [
        "stain unlike the other slides",
        "stain unlike the other slides",
        "few tiles",
        "blurred",
    ]
    assert "red of haematoxylin" in odd[0].flags[0][1]
    assert "strength of eosin" in odd[1].flags[0][1]
    assert [slide.stain_outlier for slide in odd] == [True, True, False, False]
    assert "The stain of 2 of 16 slides" in str(report_words.findings([*usual, *odd], {}, 0))


def test_few_slides_are_not_compared() -> None:
    slides = [*(a_slide(f"s{n}") for n in range(6)), a_slide("red", h_red=0.9)]
    report_measure.flag(slides)
    assert all(slide.flags == [] for slide in slides)


def test_deviations() -> None:
    values = np.zeros((5, 6))
    values[:, 0] = [0.1, 0.2, 0.3, 0.4, 1.3]  # median 0.3, MAD 0.1
    values[:, 4] = [0, 0, 0, 0, 0.1]  # MAD 0: the floor of 0.05 holds
    found = report_stain.deviations(values)
    assert found[:, 0] == pytest.approx(np.array([0.2, 0.1, 0, 0.1, 1.0]) / 0.14826)
    assert found[4, 4] == pytest.approx(2)
    assert found[:, 1].max() == 0


def test_numbers_follow_the_row_major_vectors() -> None:
    found = report_stain.numbers([[1, 2, 3, 4, 5, 6]], [[np.e, 1]])
    assert found.shape == (1, 6)
    assert found[0] == pytest.approx([1, 5, 2, 6, 1, 0])


def covered(path: str) -> set[tuple[int, int]]:
    """Grid cells (x, y) inside a path of rectangles one cell high."""
    parts = re.findall(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z", path)
    assert all(there == back for _, _, there, back in parts)
    return {(int(x) + step, int(y)) for x, y, width, _ in parts for step in range(int(width))}


@pytest.mark.parametrize("single", [True, False])
def test_cells_are_drawn_each_or_in_runs(single: bool) -> None:
    grid = np.random.default_rng(3).random((9, 7)) < 0.6
    cells = np.argwhere(grid)
    path = report_slides._squares(cells, single)
    assert covered(path) == {(x, y) for y, x in cells.tolist()}
    assert path.count("M") == len(cells) if single else path.count("M") < len(cells)


def test_contour_keeps_corners_only() -> None:
    ring = np.array([[0, 0], [10, 0], [20, 0], [20, 20], [20.2, 20.3], [0, 20], [0, 0]], float)
    assert report_slides._ring(ring, 2.0) == "M0 0l10 0 0 10 -10 0z"
    assert report_slides._ring(ring, 100.0) == ""


@pytest.mark.realdata
def test_real_slide(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    run.shard(sources.find([data / "slides" / "CMU-1-Small-Region.svs"]), out, ShardParams(), workers=1)
    page = read(report(out, tmp_path / "page.html"))
    assert "0.499 (aperio.MPP)" in page.text
    assert "No slide failed, and every file of the dataset has its recorded size" in page.text
    before = [picture for picture in page.pictures if str(picture["alt"]).endswith(", before")]
    after = [picture for picture in page.pictures if str(picture["alt"]).endswith(", after")]
    assert len(before) == len(after) >= report_module.SAMPLE
    assert (tmp_path / "page.html").stat().st_size < 2_000_000
