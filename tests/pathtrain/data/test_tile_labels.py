"""Labels of tiles from CSVs, drawn annotations and image folders."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.markers import facts_with_bounds
from helpers.toys import noise, write_dataset

from pathprep.dataset.marker import read_sealed
from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathprep.storage.seals import sealed
from pathtrain.data.tile_labels import Labels, read_labels
from pathtrain.data.whole_tiles import open_tiles


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Slide a_1: 20 tiles of 32 px in two rows of ten; slide b: 5 tiles of 64 px in one row."""
    return write_dataset(tmp_path / "dataset", {"a_1": noise(20), "b": noise(5, side=64)})


def named(labels: Labels, which: int = 0) -> list[str]:
    return ["" if value < 0 else labels.classes[value] for value in labels.values[which]]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_per_slide_by_name_or_stem(tmp_path: Path, dataset: Path) -> None:
    # a stem with a dot is named with an underscore in the dataset
    path = write(tmp_path / "l.csv", "slide,site,label\na.1,x,tumour\nb,y,normal\n")
    labels = read_labels([open_tiles(dataset)], path)
    assert labels.classes == ["normal", "tumour"]
    assert named(labels) == ["tumour"] * 20 + ["normal"] * 5


def test_per_tile_and_unlabelled(tmp_path: Path, dataset: Path) -> None:
    path = write(tmp_path / "l.csv", "slide,x,y,label\na_1,32,0,p\na_1,64,32,q\nb,64,0,p\nb,128,0,\n")
    labels = read_labels([open_tiles(dataset)], path)
    expected = [""] * 25
    expected[1], expected[12], expected[21] = "p", "q", "p"
    assert named(labels) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,label\nc,p\nb,q\n", "slide c is not in .*a_1"),
        ("name,label\nb,q\n", "no column slide; it has name, label"),
        ("slide,label\n", "needs a header and rows below it"),
        ("slide,label\nb,q\n", "labels of one class only"),
        ("slide,label\nb,q\nb,r\n", "slide b has two labels"),
        ("slide,x,label\nb,0,q\n", "only one of the columns x and y"),
        ("slide,x,y,label\nb,0,left,q\n", "line 2: x and y must be whole"),
        ("slide,x,y,label\nb,0,0,q\nb,0,0,r\n", "line 3: this tile has two labels"),
        ("slide,label\nb,q,r\n", "line 2: 3 cells, the header has 2"),
    ],
)
def test_wrong_csv(tmp_path: Path, dataset: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_labels([open_tiles(dataset)], write(tmp_path / "l.csv", text))


def test_rows_that_match_no_tile(tmp_path: Path, dataset: Path) -> None:
    path = write(tmp_path / "l.csv", "slide,x,y,label\nb,1,0,q\nb,2,0,r\n")
    with pytest.raises(UsageError, match="none of its 25 tiles has a label"):
        read_labels([open_tiles(dataset)], path)


def test_dataset_needs_labels_and_folder_brings_its_own(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(UsageError, match="a dataset holds no labels; give `labels`"):
        read_labels([open_tiles(dataset)], None)
    write(tmp_path / "labels.csv", "file,label\n1.png,q\n2.png,p\n3.png,\n")
    assert named(read_labels([open_tiles(tmp_path)], None)) == ["q", "p", ""]
    with pytest.raises(UsageError, match="not used, image folders bring"):
        read_labels([open_tiles(tmp_path)], tmp_path / "labels.csv")


def test_two_sets_share_the_numbering(tmp_path: Path, dataset: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    write(folder / "labels.csv", "file,label\n1.png,z\n2.png,p\n")
    path = write(tmp_path / "l.csv", "slide,label\na_1,q\nb,p\n")
    labels = read_labels([open_tiles(folder), open_tiles(dataset)], path)
    assert labels.classes == ["p", "q", "z"]
    assert named(labels, 0) == ["z", "p"]
    assert named(labels, 1) == ["q"] * 20 + ["p"] * 5


def test_image_folder_columns_and_twice_listed_files(tmp_path: Path) -> None:
    write(tmp_path / "labels.csv", "file,kind\n1.png,q\n")
    with pytest.raises(UsageError, match="no column label"):
        open_tiles(tmp_path)
    write(tmp_path / "labels.csv", "file,label\n1.png,q\n1.png,p\n")
    with pytest.raises(UsageError, match="listed twice"):
        open_tiles(tmp_path)


def box(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def feature(name: str | None, kind: str, coordinates: list[Any]) -> dict[str, Any]:
    classification = {} if name is None else {"classification": {"name": name, "color": [200, 0, 0]}}
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": {"objectType": "annotation", **classification},
    }


def annotate(folder: Path, features: Any, name: str = "a_1.geojson") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(features))
    return folder


def test_polygon_with_hole_multipolygon_and_smaller_inside(tmp_path: Path, dataset: Path) -> None:
    features = [
        feature("Small", "Polygon", [box(0, 0, 32, 32)]),  # first in the file, yet over the larger one
        feature("Stroma", "Polygon", [box(0, 0, 320, 32), box(64, 0, 128, 32)]),
        feature("Tumour", "MultiPolygon", [[box(0, 32, 32, 64)], [box(96, 32, 160, 64)]]),
        feature(None, "Polygon", [box(0, 0, 320, 64)]),
        feature("Line", "LineString", box(0, 0, 320, 64)),
    ]
    folder = annotate(tmp_path / "drawn", {"type": "FeatureCollection", "features": features})
    expected = ["Small", "Stroma", "", "", *["Stroma"] * 6]
    expected += ["Tumour", "", "", "Tumour", "Tumour", *[""] * 5]
    assert named(read_labels([open_tiles(dataset)], folder)) == expected + [""] * 5


def test_centre_decides_and_the_last_of_equals_wins(tmp_path: Path, dataset: Path) -> None:
    features = [
        feature("P", "Polygon", [box(0, 0, 49, 32)]),  # holds the centre of tile 1 (48, 16)
        feature("Q", "Polygon", [box(100, 0, 149, 32)]),  # not that of tile 3 (112, 16) but one wins over it
        feature("R", "Polygon", [box(100, 0, 149, 32)]),
    ]
    labels = named(read_labels([open_tiles(dataset)], annotate(tmp_path / "drawn", features)))
    assert labels[:6] == ["P", "P", "", "R", "R", ""]


def test_subclass_names(tmp_path: Path, dataset: Path) -> None:
    derived = feature(None, "Polygon", [box(0, 0, 320, 32)])
    derived["properties"]["classification"] = {"names": ["Tumour", "Positive"]}
    folder = annotate(tmp_path / "drawn", derived)
    annotate(folder, feature("X", "Polygon", [box(0, 0, 640, 64)]), "b.geojson")
    labels = read_labels([open_tiles(dataset)], folder)
    assert labels.classes == ["Tumour: Positive", "X"]


def test_wrong_annotation_folders(tmp_path: Path, dataset: Path) -> None:
    folder = tmp_path / "drawn"
    folder.mkdir()
    with pytest.raises(UsageError, match=r"holds no \.geojson file"):
        read_labels([open_tiles(dataset)], folder)
    (folder / "a_1.geojson").write_text('{"type": "Feature"}')
    with pytest.raises(
        UsageError, match=r"a_1\.geojson: not GeoJSON annotations \(a Feature has no 'geometry'\)"
    ):
        read_labels([open_tiles(dataset)], folder)
    annotate(folder, [], "c.geojson")
    (folder / "a_1.geojson").write_text("[]")
    with pytest.raises(UsageError, match="slide c is not in"):
        read_labels([open_tiles(dataset)], folder)


def test_what_is_to_be_ignored_has_no_label(tmp_path: Path, dataset: Path) -> None:
    features = [
        feature("Tumour", "Polygon", [box(0, 0, 320, 32)]),
        feature("Stroma", "Polygon", [box(32, 0, 64, 32)]),
        feature("Ignore*", "Polygon", [box(0, 0, 96, 64)]),  # larger than Stroma, yet over it
        feature("Region*", "Polygon", [box(128, 0, 160, 32)]),
        feature("Other", "Polygon", [box(0, 32, 320, 64)]),
    ]
    labels = read_labels([open_tiles(dataset)], annotate(tmp_path / "drawn", features))
    assert labels.classes == ["Other", "Tumour"]
    assert named(labels)[:10] == ["", "", "", *["Tumour"] * 7]
    assert named(labels)[10:20] == ["", "", "", *["Other"] * 7]


def with_marker(dataset: Path, **changes: Any) -> Path:
    """The dataset, with slide a_1's marker changed."""
    path = dataset / "slides/a_1.json"
    marker = read_sealed(path)
    assert marker is not None
    atomic.write_json(path, sealed(replace(marker, **changes).as_dict()))
    return dataset


def test_labels_of_a_slide_with_bounds(
    tmp_path: Path, dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_marker(dataset, facts=facts_with_bounds(96, 32, 544, 608))
    drawn = {
        "type": "FeatureCollection",
        "features": [
            feature("P", "Polygon", [box(0, 0, 64, 32)]),
            feature("Q", "Polygon", [box(96, 0, 128, 32)]),
            feature("R", "Point", [1, 2]),
        ],
    }
    folder = annotate(tmp_path / "drawn", drawn)
    with pytest.raises(
        UsageError, match=r"a_1.geojson: does not say which .* 96,32; give `label_origin` bounds"
    ):
        read_labels([open_tiles(dataset)], folder)
    with caplog.at_level("INFO"):
        labels = named(read_labels([open_tiles(dataset)], folder, "bounds"))
    assert labels[:20] == [*[""] * 13, "P", "P", "", "Q", *[""] * 3]
    assert "points and lines hold no tile: 1 Point" in caplog.text
    assert named(read_labels([open_tiles(dataset)], folder, "slide"))[:4] == ["P", "P", "", "Q"]
    annotate(folder, drawn | {"pathprep": {"origin": "bounds", "corner": [96, 32]}})
    assert named(read_labels([open_tiles(dataset)], folder)) == labels
    annotate(folder, drawn | {"pathprep": {"origin": "bounds", "corner": [90, 32]}})
    with pytest.raises(UsageError, match="it is of another slide"):
        read_labels([open_tiles(dataset)], folder)


def test_drawings_that_are_not_read(tmp_path: Path, dataset: Path) -> None:
    folder = annotate(tmp_path / "drawn", feature("P", "Polygon", [box(0, 0, 64, 32)]), "a_1.GeoJSON")
    annotate(folder, {"about": "the slide"}, "a_1.json")  # beside the GeoJSON, as other programs keep notes
    annotate(folder, feature("Q", "Polygon", [box(0, 0, 64, 32)]), "b.json")
    with pytest.raises(
        UsageError, match=r"b.json: drawings are read as GeoJSON from <slide>.geojson \(1 such"
    ):
        read_labels([open_tiles(dataset)], folder)
    (folder / "b.json").rename(folder / "b.geojson")
    assert read_labels([open_tiles(dataset)], folder).classes == ["P", "Q"]


def test_bounds_that_an_old_dataset_does_not_know(tmp_path: Path, dataset: Path) -> None:
    features = [feature("P", "Polygon", [box(0, 0, 64, 32)]), feature("Q", "Polygon", [box(96, 0, 128, 32)])]
    folder = annotate(tmp_path / "drawn", features)
    assert len(read_labels([open_tiles(with_marker(dataset, vendor="aperio"))], folder).classes) == 2
    with_marker(dataset, vendor="mirax")
    for asked in ("auto", "bounds"):
        with pytest.raises(UsageError, match="slide of mirax, of whose bounds .* has no record"):
            read_labels([open_tiles(dataset)], folder, asked)
    assert len(read_labels([open_tiles(dataset)], folder, "slide").classes) == 2


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ("left", "`label_origin` is 'left'; give auto, slide, bounds"),
        ("bounds", "is for a folder of GeoJSON"),
    ],
)
def test_origins_that_say_nothing(tmp_path: Path, dataset: Path, origin: Any, message: str) -> None:
    path = write(tmp_path / "l.csv", "slide,label\na_1,p\nb,q\n")
    with pytest.raises(UsageError, match=message):
        read_labels([open_tiles(dataset)], path, origin)
