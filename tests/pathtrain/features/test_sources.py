"""What is given to embed tells what it is: a dataset, images, or slides."""

from pathlib import Path

import pytest
from helpers.slides import tissue, write_tiff
from helpers.toys import labelled_folder

from pathprep.errors import UsageError
from pathtrain.features.embed import embed
from pathtrain.features.sources import are_slides


def test_kinds(tmp_path: Path, dataset: Path) -> None:
    images = labelled_folder(tmp_path / "images", {"p": "p"})
    slide = write_tiff(tmp_path / "a.tif", tissue(300, 300))
    table = tmp_path / "slides.csv"
    table.write_text("slide\na.tif\n")
    assert not are_slides([dataset])
    assert not are_slides([images])
    assert are_slides([slide])
    assert are_slides([tmp_path])
    assert are_slides([table])
    assert are_slides([slide, table])
    for given, message in (
        ([], "nothing is given"),
        ([slide, dataset], "a dataset; give it alone, or slides only"),
        ([images, slide], r"a folder of images \(labels.csv\); give it alone"),
    ):
        with pytest.raises(UsageError, match=message):
            are_slides(given)


def test_what_is_not_there_is_said_before_the_model_is_opened(tmp_path: Path) -> None:
    """Whose weights may be gigabytes that are fetched."""
    with pytest.raises(UsageError, match="slidse: no such file or folder"):
        embed("uni2-h", tmp_path / "slidse", tmp_path / "features")


def test_labels_of_slides_beside_them_make_no_image_folder(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", tissue(300, 300))
    (tmp_path / "labels.csv").write_text("slide,label\na,tumour\n")
    assert are_slides([tmp_path])
    (tmp_path / "labels.csv").write_text("file,slide,label\na.png,a,tumour\n")
    assert not are_slides([tmp_path])


def test_a_survey_holds_no_tiles(tmp_path: Path, run: Path) -> None:
    (tmp_path / "survey").mkdir()
    (tmp_path / "survey" / "survey.json").write_text("{}")
    with pytest.raises(UsageError, match="a survey, .* give the slides themselves"):
        embed(run, tmp_path / "survey", tmp_path / "features")


def test_options_of_slides_do_not_go_with_datasets(tmp_path: Path, dataset: Path, run: Path) -> None:
    with pytest.raises(UsageError, match="`min_tissue` goes with slides"):
        embed(run, dataset, tmp_path / "features", min_tissue=0.5)
