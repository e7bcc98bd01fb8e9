"""Sides of the study's tiles, what refuses test groups, and the tiles that are trained on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small.core.config import Common, Study, opened
from small.core.encoders import spectrum
from small.core.pool import squares
from small.core.tiles import CHOICE, TestGroups, equalised, folder, rows, table_of

from pathprep.errors import UsageError


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """EBHI as it lies there: 12 patients of two tiles, every third held out."""
    data = tmp_path / "data" / "ebhi"
    data.mkdir(parents=True)
    lines = ["file,label,group,mask,split"]
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(data / f"{number}.png")
        split = "test" if number // 2 % 3 == 0 else "train"
        lines.append(f"{number}.png,{'ab'[number % 2]},P{number // 2},,{split}")
    (data / "labels.csv").write_text("\n".join(lines) + "\n")
    return Study(data.parent, tmp_path / "work", tmp_path / "study.yaml", Common(), {})


def test_sides_share_no_group_and_lose_no_tile(study: Study) -> None:
    found = list(rows(study.data, "ebhi"))
    sides = {side: {row.group for row in found if row.on(side)} for side in ("fit", "validation", "test")}
    assert all(sides.values())
    assert len(set.union(*sides.values())) == sum(map(len, sides.values())) == 12
    assert {row.group for row in found if row.on("train")} == sides["fit"] | sides["validation"]


def test_test_groups_are_refused_until_the_choice_is_written(study: Study) -> None:
    for side in ("fit", "validation", "train"):
        assert table_of(folder(study, "ebhi", side) / "labels.csv")
    with pytest.raises(TestGroups, match="run the part `choice` first"):
        folder(study, "ebhi", "test")
    assert not (study.work / "tiles" / "ebhi" / "plain" / "test").exists()
    (study.work / CHOICE).write_text("{}")
    assert len(table_of(folder(study, "ebhi", "test") / "labels.csv")) == 8


def test_no_part_has_a_recipe_before_the_choice(study: Study) -> None:
    with pytest.raises(UsageError, match="run the part `choice` first"):
        _ = study.recipe


def test_equalised_tiles_have_one_histogram(study: Study) -> None:
    where = folder(study, "ebhi", "train", "equalised")
    for row in table_of(where / "labels.csv"):
        counts = np.bincount(np.asarray(Image.open(where / row["file"]))[..., 0].ravel(), minlength=256)
        assert set(counts) == {4}


def test_equalising_keeps_the_order_of_grey_levels() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert np.array_equal(equalised(ramp), ramp[..., 0])
    assert np.array_equal(equalised(ramp // 2 + 40).ravel() // 2, np.arange(256) // 2)


def test_fields_are_cut_and_small_tiles_enlarged() -> None:
    assert [tile.size for tile in squares(Image.new("RGB", (500, 460)))] == [(224, 224)] * 4
    assert [tile.size for tile in squares(Image.new("RGB", (256, 256)))] == [(224, 224)]
    assert [tile.size for tile in squares(Image.new("RGB", (128, 140)))] == [(224, 224)]


def test_the_spectrum_tells_coarse_from_fine() -> None:
    columns = np.indices((224, 224))[1]
    coarse, fine = (np.sin(columns * 2 * np.pi / period).astype(np.float32) for period in (40, 4))
    assert spectrum(coarse).argmax() < spectrum(fine).argmax()
    assert spectrum(fine).argmax() == np.digitize(1 / 4, np.geomspace(1 / 64, 0.5, 17)) - 1
    assert np.isfinite(spectrum(np.zeros((64, 64), np.float32))).all()


def test_a_wrong_configuration_is_named(tmp_path: Path) -> None:
    config = tmp_path / "study.yaml"
    for text, message in (
        ("comon: {}", "no section comon"),
        ("common: {seeds: 0}", "common.seeds"),
        ("- 1", "must have sections"),
        ("a: [", "cannot be read as YAML"),
    ):
        config.write_text(text)
        with pytest.raises(UsageError, match=message):
            opened(config, tmp_path, tmp_path)
