"""`pathprep overlay`: files that lie where the tiles are, for QuPath and for readers of pyramids."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
from helpers import deadly_overlay
from helpers.bounded import without_tiles
from helpers.commands import command
from helpers.scored import grid, write_csv, write_hdf5, write_parquet
from helpers.slides import tissue, write_tiff

import pathprep
from pathprep.errors import UsageError
from pathprep.scores import colours, overlay
from pathprep.slides.geojson import read_geojson
from pathprep.slides.readers.base import Bounds
from pathprep.slides.slide import Slide

VIRIDIS = colours.table("viridis").astype(int)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("s") / "one.tif", tissue(600, 1000), levels=3)


def features(path: str) -> list[dict[str, Any]]:
    made = json.loads(Path(path).read_text())
    assert made["type"] == "FeatureCollection"
    return list(made["features"])


def check_qupath(feature: dict[str, Any]) -> None:
    """What QuPath 0.4 to 0.6 read of a feature; a ring that is not closed, or a colour that is no list of
    three whole numbers, ends its import."""
    assert feature["type"] == "Feature"
    geometry = feature["geometry"]
    assert geometry["type"] == "Polygon"
    for ring in geometry["coordinates"]:
        assert ring[0] == ring[-1]
        assert len(ring) >= 4
        assert all(len(point) == 2 and all(isinstance(v, int | float) for v in point) for point in ring)
    properties = feature["properties"]
    assert properties["objectType"] in ("tile", "annotation")
    colours = [properties["color"]] if "color" in properties else []
    if "classification" in properties:
        assert set(properties["classification"]) == {"name", "color"}
        assert isinstance(properties["classification"]["name"], str)
        colours.append(properties["classification"]["color"])
    for colour in colours:
        assert len(colour) == 3
        assert all(type(part) is int and 0 <= part <= 255 for part in colour)
    measurements = properties.get("measurements", {})
    assert isinstance(measurements, dict)  # a list of names and values before 0.4
    assert all(isinstance(value, float | int) for value in measurements.values())


def test_tiles_classes_and_measurements(tmp_path: Path, slide: Path) -> None:
    rows = [{**row, "cluster": "ab"[place % 2]} for place, row in enumerate(grid(5, 3, 200, slide="one"))]
    rows[3]["score"], rows[4]["cluster"] = None, None
    made = pathprep.overlay(write_parquet(tmp_path / "s.parquet", rows), slide, tmp_path / "out")
    (one,) = made.slides
    assert (one.tiles, one.objects, one.problem) == (15, 15, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.geojson", "one.ome.tif"]
    found = features(one.files[0])
    for feature in found:
        check_qupath(feature)
    names = [each["properties"].get("classification", {}).get("name") for each in found]
    assert names[:6] == ["a", "b", "a", "b", None, "b"]
    assert "measurements" not in found[3]["properties"]
    assert found[1]["properties"]["measurements"] == {"score": 1 / 15}
    assert found[14]["geometry"]["coordinates"] == [
        [[800, 400], [1000, 400], [1000, 600], [800, 600], [800, 400]]
    ]


def test_the_picture_lies_on_the_slide(tmp_path: Path, slide: Path) -> None:
    """Read back by tifffile, OpenSlide and this project, in its levels, with its micrometres per pixel."""
    rows = [{"x": 400, "y": 200, "side": 64, "p": 1.0}, {"x": 0, "y": 0, "side": 64, "p": 0.0}]
    scores = write_csv(tmp_path / "s.csv", rows)
    (one,) = pathprep.overlay(scores, slide, tmp_path, geojson=False, opacity=1).slides
    path = Path(one.files[0])
    high, low = VIRIDIS[255], VIRIDIS[0]
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        (series,) = file.series
        picture = series.levels[0].asarray()
        assert 'PhysicalSizeX="2.0"' in (file.ome_metadata or "")
        assert 'Namespace="pathprep/legend"' in (file.ome_metadata or "")
        assert "#fde725" in (file.ome_metadata or "")
    assert picture.shape == (150, 250, 3)  # 16 pixels a tile
    assert (picture[50:66, 100:116] == high).all()
    assert (picture[:16, :16] == low).all()
    assert (picture[60:, :100] == 255).all()
    with Slide(path) as ours:
        assert ours.stated_mpp[0].x == 2
        assert (ours.read(0, 100, 50, 16, 16) == high).all()
    with openslide.OpenSlide(path) as theirs:
        assert theirs.dimensions == (250, 150)
        assert float(theirs.properties["openslide.mpp-x"]) == pytest.approx(2)
        assert (np.asarray(theirs.read_region((100, 50), 0, (16, 16)))[..., :3] == high).all()


def test_levels_and_the_slide_below(tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "large.tif", tissue(1200, 1600), levels=2)
    scores = write_csv(tmp_path / "s.csv", grid(2, 2, 32))
    (one,) = pathprep.overlay(scores, slide, tmp_path / "o", opacity=0.0, geojson=False).slides
    with tifffile.TiffFile(one.files[0]) as file:
        shapes = [level.shape[:2] for level in file.series[0].levels]
        picture = file.series[0].levels[0].asarray()
    assert shapes == [(600, 800), (300, 400), (150, 200)]
    with Slide(slide) as opened:
        below = opened.overview(2)
    assert np.abs(picture.astype(int) - below).mean() < 3  # JPEG


def test_a_slide_with_bounds_is_drawn_as_qupath_shows_it(tmp_path: Path) -> None:
    """QuPath's reports 820 and 1278, FAST-Pathology's 76: QuPath opens the scanned part alone, and what
    counts from the slide's corner, or covers all of it, is shifted there."""
    slide = without_tiles(tmp_path / "b.tif", 128, {0}, {0, 1})
    with Slide(slide) as opened:
        assert opened.bounds == Bounds(128, 256, 772, 444)
    scores = write_csv(tmp_path / "s.csv", [{"x": 256, "y": 320, "side": 64, "p": 1.0}])
    (one,) = pathprep.overlay(scores, slide, tmp_path / "o", opacity=1).slides
    (feature,) = features(one.files[0])
    assert feature["geometry"]["coordinates"][0][0] == [128, 64]
    with tifffile.TiffFile(one.files[1]) as file:
        picture = file.asarray()
        assert "from 128,256 on" in (file.ome_metadata or "")
    assert picture.shape == (111, 193, 3)
    there = np.argwhere((picture != 255).any(axis=2))
    assert there.min(axis=0).tolist() == [16, 32]
    assert there.max(axis=0).tolist() == [31, 47]
    stated = read_geojson(Path(one.files[0])).stated
    assert stated is not None
    assert (stated.origin, stated.corner) == ("bounds", (128.0, 256.0))


def test_areas_of_one_class(tmp_path: Path, slide: Path) -> None:
    rows = [{**row, "cluster": "tumour" if row["x"] < 400 else "rest"} for row in grid(5, 3, 200)]
    scores = write_csv(tmp_path / "s.csv", rows)
    (one,) = pathprep.overlay(scores, slide, tmp_path, merge=True, tiff=False, score=["cluster"]).slides
    first, second = features(one.files[0])
    check_qupath(first)
    assert [each["properties"]["classification"]["name"] for each in (first, second)] == ["rest", "tumour"]
    assert second["geometry"]["coordinates"] == [[[0, 0], [400, 0], [400, 600], [0, 600], [0, 0]]]
    with pytest.raises(UsageError, match="score are numbers"):
        pathprep.overlay(scores, slide, tmp_path, merge=True, score=["score"])


def test_equal_inputs_give_equal_bytes(tmp_path: Path, slide: Path) -> None:
    scores = write_csv(tmp_path / "s.csv", grid(5, 3, 200))
    made = [pathprep.overlay(scores, slide, tmp_path / name).slides[0].files for name in "ab"]
    assert [Path(path).read_bytes() for path in made[0]] == [Path(path).read_bytes() for path in made[1]]


def test_names_that_html_and_xml_would_obey(tmp_path: Path, slide: Path) -> None:
    hostile = "<img src=x onerror=hit()>&\x1b]0;"
    other = tmp_path / f"{'a<b>&'}.tif"
    shutil.copyfile(slide, other)
    rows = [{**row, hostile: row["score"], "cluster": hostile} for row in grid(2, 2, 200)]
    (one,) = pathprep.overlay(write_parquet(tmp_path / "s.parquet", rows), other, tmp_path / "o").slides
    for feature in features(one.files[0]):
        check_qupath(feature)
    with tifffile.TiffFile(one.files[1]) as file:
        xml = file.ome_metadata or ""
    assert "<img" not in xml
    assert "\x1b" not in xml
    assert "&lt;img" in xml


def test_some_slides_without_scores_and_some_scores_without_slides(tmp_path: Path, slide: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("one", "two"):
        shutil.copyfile(slide, folder / f"{name}.tif")
    rows = [*grid(2, 2, 200, slide="two"), *grid(2, 2, 200, slide="three")]
    made = pathprep.overlay(write_csv(tmp_path / "s.csv", rows), folder, tmp_path / "o")
    assert [each.slide for each in made.slides] == ["two"]
    assert made.notes == [
        "1 slide of the scores not among the slides; left out",
        "1 slide without scores; left out",
    ]
    with pytest.raises(UsageError, match="none of the slides has rows in it; it has three, two"):
        pathprep.overlay(tmp_path / "s.csv", folder / "one.tif", tmp_path / "o")
    anonymous = write_csv(tmp_path / "t.csv", grid(2, 2, 200))
    with pytest.raises(UsageError, match="does not say which slide"):
        pathprep.overlay(anonymous, folder, tmp_path / "o")


def test_sides_from_a_dataset(tmp_path: Path, small: Path) -> None:
    dataset = pathprep.open(small)
    table = dataset.table("synth-000", ["x", "y", "focus"])  # type: ignore[union-attr]
    coords = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
    path = write_hdf5(
        tmp_path / "synth-000_blockmap.h5", coords, {}, attention_scores=table["focus"].to_numpy()
    )
    slides = small.parent / "slides"
    made = pathprep.overlay(path, slides, tmp_path / "o", dataset=small, tiff=False)
    ring = features(made.slides[0].files[0])[0]["geometry"]["coordinates"][0]
    assert ring[2][0] - ring[0][0] == 64
    without = pathprep.overlay(path, slides, tmp_path / "o")
    assert "has no side" in without.failures[0].problem


def test_a_reader_that_crashes_costs_one_slide(
    tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("deadly", "well"):
        shutil.copyfile(slide, folder / f"{name}.tif")
    rows = [*grid(2, 2, 200, slide="deadly"), *grid(2, 2, 200, slide="well")]
    scores = write_csv(tmp_path / "s.csv", rows)
    monkeypatch.setattr(overlay, "_make", deadly_overlay.make)
    made = pathprep.overlay(scores, folder, tmp_path / "o", tiff=False)
    assert "its reader crashed" in made.slides[0].problem
    assert made.slides[1].objects == 4


def test_command(tmp_path: Path, slide: Path) -> None:
    scores = write_csv(tmp_path / "s.csv", [{**grid(1, 1, 200, slide="one")[0], "x": 5000}])
    done = command("pathprep", "overlay", scores, slide, "--out", tmp_path / "o")
    assert done.code == 1
    assert "lies outside of its 1000x600" in done.err
    write_csv(scores, grid(2, 2, 200, slide="one"))
    done = command("pathprep", "overlay", scores, slide, "--out", tmp_path / ("o" * 60))
    assert done.out.count("o" * 20) >= 4
    assert "…" not in done.out  # names of files are folded, not cut
    done = command("pathprep", "overlay", scores, slide, "--out", tmp_path / "o", "--json")
    assert done.code == 0
    assert json.loads(done.out)["slides"][0]["tiles"] == 4


@pytest.mark.realdata
def test_a_real_slide_with_bounds(data: Path, tmp_path: Path) -> None:
    """Leica's SCN, of which QuPath shows the scanned part alone: tissue lies where the slide has it."""
    slide = data / "formats" / "made" / "cmu.scn"
    if not slide.exists():
        pytest.skip(f"{slide} is not there")
    with Slide(slide) as opened:
        bounds, picture = opened.bounds, opened.read(0, 1024, 1280, 256, 256)
    assert bounds == Bounds(222, 296, 2220, 2967)
    scores = write_csv(tmp_path / "s.csv", [{"x": 1024, "y": 1280, "side": 256, "p": 1.0}])
    (one,) = pathprep.overlay(scores, slide, tmp_path / "o", opacity=0.0).slides
    (feature,) = features(one.files[0])
    assert feature["geometry"]["coordinates"][0][0] == [1024 - 222, 1280 - 296]
    with tifffile.TiffFile(one.files[1]) as file:
        made = file.asarray()
    by = 2220 / made.shape[1]
    x, y = round((1024 - 222) / by), round((1280 - 296) / by)
    size = round(256 / by)
    shown = made[y : y + size, x : x + size].reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(shown, picture.reshape(-1, 3).mean(axis=0), atol=6)
