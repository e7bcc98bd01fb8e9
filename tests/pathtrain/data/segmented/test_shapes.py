"""Drawn outlines as pixels: ImageScope's and QuPath's, and what other programs wrote is named."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from helpers.segmented import imagescope, qupath, square

from pathprep.errors import DatasetError
from pathtrain.data.segmented.shapes import as_said
from pathtrain.data.segmented.truth import Said


def names(said: Said) -> list[list[str]]:
    assert said.values is not None
    return [[said.names.get(int(value), "") for value in row] for row in said.values]


def test_a_layer_is_a_class_and_later_regions_lie_on_top(tmp_path: Path) -> None:
    path = imagescope(
        tmp_path / "a.xml",
        [
            ("Epithelial", [('Type="0"', square(0, 0, 4)), ('Type="0"', square(6, 6, 2))]),
            ("Lymphocyte", [('Type="0"', square(3, 3, 3))]),
        ],
    )
    found = as_said(path, 10, 10)
    table = names(found)
    assert table[0][0] == "Epithelial"
    assert table[4][4] == table[3][3] == "Lymphocyte"
    assert table[9][9] == ""
    assert found.instances is not None
    assert sorted(np.unique(found.instances)) == [0, 1, 2, 3]


def test_regions_of_imagescope_that_broke_other_readers(tmp_path: Path) -> None:
    """An ellipse has the two corners of its box as vertices (MITOS_WSI_CCMCT 2), rulers and arrows are no
    areas (globox 3), NegativeROA cuts out, and a layer may have no name (DeepPATH 94)."""
    path = imagescope(
        tmp_path / "a.xml",
        [
            (
                "Description",
                [
                    ('Type="2" Text="Mitosis"', [(10, 10), (20, 18)]),
                    ('Type="4"', [(0, 0), (30, 30)]),
                    ('Type="0"', [(1, 1), (2, 2)]),
                    ('Type="1"', square(22, 2, 6)),
                    ('Type="0" NegativeROA="1"', square(24, 4, 2)),
                ],
            )
        ],
    )
    found = as_said(path, 32, 32)
    table = names(found)
    assert table[14][15] == "object"
    assert table[10][10] == ""  # the corner of the ellipse's box
    inside = sum(row[10:21].count("object") for row in table[10:19])
    assert abs(inside - np.pi * 5 * 4) < 12
    assert table[3][23] == "object"
    assert table[5][25] == ""
    assert table[0][0] == table[29][29] == ""


def test_packed_xml_is_read(tmp_path: Path) -> None:
    path = imagescope(tmp_path / "a.xml", [("", [("", square(0, 0, 3))])])
    packed = tmp_path / "a.xml.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(as_said(packed, 8, 8).values, as_said(path, 8, 8).values)


def test_geojson_pixels_are_those_whose_centre_is_inside(tmp_path: Path) -> None:
    path = qupath(tmp_path / "a.geojson", [("Tumor", "Polygon", [square(1, 2, 3)])])
    values = as_said(path, 8, 8).values
    assert values is not None
    assert np.argwhere(values).tolist() == [[row, column] for row in (2, 3, 4) for column in (1, 2, 3)]


def test_geojson_holes_parts_and_objects_over_each_other(tmp_path: Path) -> None:
    """Holes taken for areas (HistoQC 258), parts of a MultiPolygon for several (raster-vision 335)."""
    path = qupath(
        tmp_path / "a.geojson",
        [
            ("small", "Polygon", [square(2, 2, 2)]),
            ("ring", "Polygon", [square(0, 0, 12), square(6, 6, 3)]),
            ("parts", "MultiPolygon", [[square(20, 0, 3)], [square(20, 10, 3)]]),
        ],
    )
    found = as_said(path, 24, 24)
    table = names(found)
    assert table[3][3] == "small"  # it is on top of the ring, though it comes first
    assert table[0][0] == "ring"
    assert table[7][7] == ""
    assert found.instances is not None
    assert found.instances[1, 21] == found.instances[11, 21] > 0
    assert len(np.unique(found.instances)) == 4


def test_classes_of_qupath_that_are_none(tmp_path: Path) -> None:
    objects: list[tuple[str | None, str, object]] = [
        ("Tumor", "Polygon", [square(0, 0, 3)]),
        ("Ignore*", "Polygon", [square(5, 0, 3)]),
        ("Region*", "Polygon", [square(0, 0, 20)]),
        (None, "Polygon", [square(10, 10, 3)]),
    ]
    found = as_said(qupath(tmp_path / "a.geojson", objects), 24, 24)
    assert sorted(found.names.values()) == ["Tumor", "ignored"]
    bare = as_said(qupath(tmp_path / "b.geojson", objects[3:]), 24, 24)
    assert list(bare.names.values()) == ["object"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.xml", "<Annotations><Annotation>", "no XML that can be read"),
        ("a.xml", "", "no XML that can be read"),
        ("a.xml", "<ASAP_Annotations><Annotations/></ASAP_Annotations>", "annotations of ASAP"),
        ("a.xml", "<annotations><ndpviewstate/></annotations>", "annotations of NDP.view"),
        (
            "a.xml",
            '<Annotations><Annotation><Regions><Region Id="4"><Vertices><Vertex X="1"/></Vertices></Region>'
            "</Regions></Annotation></Annotations>",
            "region 4 has a vertex",
        ),
        ("a.geojson", '{"type": "FeatureCollection", "features": [', "not GeoJSON"),
        ("a.geojson", '{"shapes": [], "imagePath": "a.png"}', "LabelMe"),
        ("a.json", '{"images": [], "annotations": [], "categories": []}', "COCO"),
    ],
)
def test_files_of_others_and_damaged_ones_are_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DatasetError) as told:
        as_said(path, 10, 10)
    assert str(path) in str(told.value)
    assert says in str(told.value)


def test_outlines_of_another_image_are_refused(tmp_path: Path) -> None:
    path = qupath(tmp_path / "a.geojson", [("T", "Polygon", [square(20000, 30000, 50)])])
    with pytest.raises(DatasetError, match="lie outside of the image, 100x80 px"):
        as_said(path, 80, 100)
