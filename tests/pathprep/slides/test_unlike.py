"""Slides that do not look like H&E, or not like the others, are named; those that do are not."""

from pathlib import Path

import numpy as np
import pytest
from helpers.slides import tissue
from PIL import Image

from pathprep.params.notes import ODD_MPP, in_words
from pathprep.params.tissue import TissueParams
from pathprep.slides import tissue as search
from pathprep.slides import unlike
from pathprep.slides.slide import Slide

Pixels = np.ndarray
DAB = np.array([[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]])


def notes(picture: Pixels) -> tuple[str, ...]:
    found = search.segment(picture, 8.0, TissueParams())
    return unlike.notes(picture, found.glass, found.mask)


def ihc() -> Pixels:
    """Haematoxylin, brown DAB on some of it, and glass around."""
    rng = np.random.default_rng(0)
    density = np.stack([rng.uniform(0.1, 0.5, (120, 120)), 0.8 * (rng.random((120, 120)) < 0.2)], -1)
    density[:20] = 0
    return (240 * np.exp(-density @ DAB)).astype(np.uint8)


def test_an_ordinary_slide_has_no_note() -> None:
    assert notes(tissue(160, 200, margin=40)) == ()


def test_ihc_is_not_he() -> None:
    assert notes(ihc()) == ("not_he",)


def test_a_dark_background() -> None:
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 6, (100, 100, 3))
    dark[30:60, 30:60, 2] += 150  # nuclei under DAPI
    assert "dark_background" in notes(dark.astype(np.uint8))


def test_tissue_everywhere_and_nowhere() -> None:
    assert notes(tissue(160, 200)) == ("all_tissue",)
    assert notes(np.full((50, 50, 3), 243, np.uint8)) == ("no_tissue",)


def test_odd_mpps() -> None:
    mpps = {f"s{i}": 0.25 + 0.003 * (i % 3) for i in range(12)} | {"a": 0.5, "b": 0.49, "x": 2.5, "y": 0.08}
    assert unlike.odd_mpps(mpps) == ["x", "y"]
    assert unlike.odd_mpps({"a": 0.25, "b": 0.5, "c": 1.0}) == []
    many = {f"s{i}": 0.25 for i in range(100)} | {f"t{i}": 0.5 for i in range(3)}
    assert unlike.odd_mpps(many) == ["t0", "t1", "t2"]


def test_by_note_names_slides_in_order() -> None:
    found = unlike.by_note({"b": ("not_he",), "a": ("not_he", "all_tissue"), "c": ()}, {})
    assert found == {"not_he": ["a", "b"], "all_tissue": ["a"]}
    assert all(in_words(code) != code for code in (*found, ODD_MPP))
    assert in_words("of_a_later_version") == "of_a_later_version"


def seen(pixels: Pixels, mpp: float) -> tuple[str, ...]:
    width, height = (max(1, round(side * mpp / 8)) for side in pixels.shape[1::-1])
    return notes(np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)))


@pytest.mark.realdata
def test_real_h_and_e_is_not_flagged_and_ihc_is(data: Path) -> None:
    for path in [
        *sorted((data / "cohort").glob("*.tif"))[::6],
        *sorted((data / "slides/monuseg").glob("*.tif")),
    ]:
        with Slide(path) as slide:
            pixels = slide.read(0, 0, 0, slide.width, slide.height)
        assert "not_he" not in seen(pixels, 0.5 if "cohort" in str(path) else 0.25), path
    ihc = data / "pen-ihc" / "ihc"
    for path in [ihc / "Rat-Kidney_PanCytokeratin.jpg", *sorted((ihc / "lung-lesion_3").rglob("*.jpg"))]:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert ("not_he" in seen(pixels, 4.0)) == ("-He-" not in path.name), path
