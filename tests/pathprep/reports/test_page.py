"""The dataset's page: complete, self-contained, readable in a real browser, honest about what is missing."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.browser import check_page
from helpers.reports import Shard, make, read

from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError, UsageError
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainMode
from pathprep.reports.page import SAMPLE, report
from pathprep.sharding import run
from pathprep.sharding.plan import prepare
from pathprep.slides import find
from pathprep.storage.seals import write_sealed


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, False), (390, True)])
def test_page_in_a_browser(made: Shard, tmp_path: Path, width: int, dark: bool) -> None:
    result = check_page(report(made("bake"), tmp_path / "page.html"), width, None, dark)
    assert result.errors == []
    assert result.external == []
    assert result.broken == []
    assert result.without_alt == 0
    assert result.overflow == 0
    assert result.images > 4 + 2 * SAMPLE  # overviews, the sample before and after, and odd tiles
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
    borrowed = sum(marker.stain.get("slide_fit", 0) for marker in markers.values())
    tiles = sum(marker.tiles for marker in markers.values())
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
        f"dropped: no tissue {markers['first'].counts['no_tissue']}",
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
    write_sealed(failed, {**entry, "error": "<script>alert(1)</script>", "kind": '"><img src=x>'})
    path = report(dataset, tmp_path / "page.html")
    assert "<script>alert" not in path.read_text()
    assert "<script>alert(1)</script>" in read(path).text
    assert all(picture["src"] != "x" for picture in read(path).pictures)


def test_most_suspicious_slides_come_first(
    made: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pathprep.reports.page.MAX_SLIDES", 2)
    page = read(report(made("bake"), tmp_path / "page.html"))
    shown = [str(picture["alt"]) for picture in page.pictures if str(picture["alt"]).startswith("Overview")]
    assert shown == ["Overview of glass", "Overview of third"]
    assert "2 others are left out here; the table below has all" in page.text
    table = page.text[page.text.index("to look at") :]
    assert all(name in table for name in ("first", "second", "third", "glass"))


def test_empty_dataset(tmp_path: Path) -> None:
    prepare(tmp_path / "dataset", ShardParams(), rebuild=False)
    page = read(report(tmp_path / "dataset", tmp_path / "page.html"))
    assert "No slide is done yet" in page.text
    assert page.pictures == []


def test_dataset_whose_slides_all_failed(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    for name in ("a.tif", "b.tif"):
        (tmp_path / "archive" / name).write_bytes(b"no " + name.encode())
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


@pytest.mark.realdata
def test_real_slide(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    run.shard(find.find([data / "slides" / "CMU-1-Small-Region.svs"]), out, ShardParams(), workers=1)
    page = read(report(out, tmp_path / "page.html"))
    assert "0.499 (aperio.MPP)" in page.text
    assert "No slide failed, and every file of the dataset has its recorded size" in page.text
    before = [picture for picture in page.pictures if str(picture["alt"]).endswith(", before")]
    after = [picture for picture in page.pictures if str(picture["alt"]).endswith(", after")]
    assert len(before) == len(after) >= SAMPLE
    assert (tmp_path / "page.html").stat().st_size < 2_000_000
