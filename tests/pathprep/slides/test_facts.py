"""What is decided about a slide, each with its source, from one place for marker and inspect."""

import json
from pathlib import Path

import pytest
from helpers.markers import slide_marker
from helpers.slides import tissue, write_tiff

from pathprep.dataset.marker import Marker, unsealed
from pathprep.slides.facts import Facts, decide
from pathprep.slides.mpp.settle import MppRules
from pathprep.slides.slide import Slide
from pathprep.storage.seals import sealed

APERIO = "Aperio Image Library v1\r\n300x300 (240x240) JPEG/RGB Q=30|AppMag = 20|MPP = {}"


def facts(path: Path, **rules: float) -> Facts:
    with Slide(path) as slide:
        return decide(slide, slide.mpp(MppRules(**rules)), "a_b", "a.b")


def test_every_decision_has_its_source(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.b.svs", tissue(300, 300), mpp=72.0, description=APERIO.format("0,25"))
    made = facts(path)
    assert (made.mpp.value, made.mpp.source) == (0.25, "aperio.MPP: MPP = 0,25")
    assert [other.partition(":")[0] for other in made.mpp.others] == ["TIFF resolution tags"]
    assert made.levels.value == [{"width": 300, "height": 300, "downsample": 1.0}]
    assert made.origin.value == {"origin": "slide", "bounds": None}
    assert made.name.value == {"name": "a_b", "own_name": "a.b"}
    for each in (made.levels, made.colour, made.origin, made.name):
        assert each.source


def test_an_override_and_a_default_are_named_and_what_the_file_says_is_kept(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.svs", tissue(300, 300), mpp=None, description=APERIO.format("0,25"))
    made = facts(path, override=0.5).mpp
    assert (made.value, made.source) == (0.5, "the mpp column of the CSV of slides")
    assert made.others == ("aperio.MPP: MPP = 0,25 (0.25 MPP)",)
    none = write_tiff(tmp_path / "b.tif", tissue(300, 300), mpp=None)
    assert facts(none, default=0.5).mpp.source == "--default-mpp, as the file states none"


def test_a_slide_without_a_usable_mpp_tells_what_was_found(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.svs", tissue(300, 300), mpp=None, description=APERIO.format("abc"))
    with Slide(path) as slide:
        made = decide(slide, None, "a", "a").mpp
    assert (made.value, made.others) == (None, ("aperio.MPP: MPP = abc, it is no number",))


def test_they_are_json_and_come_back_from_it(tmp_path: Path) -> None:
    made = facts(write_tiff(tmp_path / "a.tif", tissue(300, 300)))
    values = json.loads(json.dumps(made.as_dict()))
    assert Facts.of(values) == made
    del values["mpp"]
    with pytest.raises(KeyError):
        Facts.of(values)


def test_markers_keep_them_sealed_and_older_ones_have_none(tmp_path: Path) -> None:
    made = facts(write_tiff(tmp_path / "a.tif", tissue(300, 300)))
    marker = slide_marker("build", facts=made)
    written = json.loads(json.dumps(sealed(marker.as_dict())))
    assert unsealed(written) == marker
    written["facts"]["mpp"]["value"] = 0.25
    assert unsealed(written) is None
    older = slide_marker("build").as_dict()
    assert "facts" not in older
    assert Marker.from_dict(older).facts is None  # type: ignore[attr-defined]
