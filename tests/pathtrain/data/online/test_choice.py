"""Slides and MPPs in the shares that the recipe asks for, the same whoever asks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.surveyed import survey

from pathprep.errors import UsageError
from pathprep.surveys.folder import Survey
from pathtrain.data.online.choice import Choice, choice
from pathtrain.recipes.online import OnlineConfig
from pathtrain.recipes.sampling import SamplingConfig

ONLINE = OnlineConfig(tile=64)
POSITIONS = np.arange(20000)
ZEROS = np.zeros(len(POSITIONS), np.int64)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return Survey(survey(tmp_path_factory.mktemp("choice")))


def shares(found: Choice, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    slides, mpps = found.draw(POSITIONS, ZEROS, seed)
    return (
        np.bincount(slides, minlength=len(found.slides)) / len(slides),
        np.bincount(mpps, minlength=len(found.mpps)) / len(mpps),
    )


def test_by_tissue_by_slide_and_by_a_column(made: Survey, tmp_path: Path) -> None:
    areas = np.array([slide.area for slide in made.slides.values()])
    by_tissue, said = choice(made, SamplingConfig(), ONLINE)
    assert said == []
    np.testing.assert_allclose(shares(by_tissue)[0], areas / areas.sum(), atol=0.015)
    by_slide, _ = choice(made, SamplingConfig(by="slide", weights={"a": 3.0}), ONLINE)
    np.testing.assert_allclose(shares(by_slide)[0], [0.5, 1 / 6, 1 / 6, 1 / 6], atol=0.015)
    table = tmp_path / "t.csv"
    table.write_text("slide_id,organ\na.tif,lung\nb,lung\nc,colon\nd,lung\n")
    by_organ, _ = choice(made, SamplingConfig(by="organ", table=table), ONLINE)
    lung = areas[[0, 1, 3]]
    expected = [*(lung[:2] / lung.sum() / 2), 0.5, lung[2] / lung.sum() / 2]
    np.testing.assert_allclose(shares(by_organ)[0], expected, atol=0.015)
    assert "4 slides" in by_organ.said()


def test_mpps_by_weight_where_a_slide_gives_them(made: Survey) -> None:
    found, said = choice(made, SamplingConfig(mpps={0.25: 1, 0.5: 2, 1: 1, 0.2: 9, 8: 9}), ONLINE)
    assert said == ["no slide gives tiles at 0.2, 8 MPP: none is drawn there"]
    np.testing.assert_allclose(shares(found)[1], [0.25, 0.5, 0.25, 0, 0], atol=0.015)  # 0.2: too coarse
    strict, _ = choice(made, SamplingConfig(mpps={0.25: 1, 0.5: 1}), replace_online(coarser=1.0))
    np.testing.assert_allclose(shares(strict)[1], [0, 1])


def replace_online(**changes: object) -> OnlineConfig:
    return ONLINE.model_copy(update=changes)


def test_without_mpps_it_is_half_a_micrometre(made: Survey) -> None:
    assert choice(made, SamplingConfig(), ONLINE)[0].mpps == (0.5,)


def test_held_out_and_redrawn(made: Survey) -> None:
    found, _ = choice(made, SamplingConfig(by="slide"), ONLINE)
    left = found.without(["b"])
    slides, _ = left.draw(POSITIONS, ZEROS, 0)
    assert 1 not in slides
    again, _ = left.draw(POSITIONS, ZEROS + 1, 0)
    assert 0.2 < np.mean(again == slides) < 0.5  # another draw, of its own


def test_a_position_alone_decides(made: Survey) -> None:
    found, _ = choice(made, SamplingConfig(mpps={0.5: 1, 1: 1}), ONLINE)
    whole = found.draw(POSITIONS, ZEROS, 5)
    part = found.draw(POSITIONS[77:90:3], ZEROS[77:90:3], 5)
    for one, other in zip(whole, part, strict=True):
        np.testing.assert_array_equal(one[77:90:3], other)


def test_slides_that_give_none_are_named(made: Survey) -> None:
    survey = Survey(made.root)
    survey.slides["b"] = replace(survey.slides["b"], mpp=4.0)
    found, said = choice(survey, SamplingConfig(), ONLINE)
    assert found.slides == ["a", "c", "d"]
    assert said == ["1 slide not drawn, for they give none of the MPPs: b"]


@pytest.mark.parametrize(
    ("sampling", "online", "words"),
    [
        (SamplingConfig(mpps={0.1: 1}), ONLINE, r"none of 4 slides gives tiles of 64 px at 0.1 MPP.*0.5 MPP"),
        (SamplingConfig(), OnlineConfig(tile=1024), "none of 4 slides gives tiles of 1024 px"),
        (SamplingConfig(by="organ"), ONLINE, r"a survey has no column organ; give sampling\.table"),
        (SamplingConfig(by="cluster"), ONLINE, "a survey has no tiles to cluster; draw by slide or tile"),
        (SamplingConfig(by="site", table=Path("no.csv")), ONLINE, r"sampling\.table no\.csv: no such file"),
        (SamplingConfig(by="slide", weights={"z": 2}), ONLINE, "there is no slide z; there are a, b, c, d"),
        (SamplingConfig(datasets={"x": 1}), ONLINE, r"sampling\.datasets"),
    ],
)
def test_what_cannot_be_drawn_says_why(
    made: Survey, sampling: SamplingConfig, online: OnlineConfig, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        choice(made, sampling, online)
