"""Measures on features of which is known what they hold: the class, the cast, the slide, or nothing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small.core.scores import Labels
from small.stain.measures import robustness, scanners, shortcut, slides

from pathtrain.evaluate.statistics import Floats, Ints

RATES = (0.9, 0.5, 0.1)


def noisy(*numbers: Ints, width: int = 8) -> Floats:
    """Each number as a direction of its own, and a little noise."""
    rng = np.random.default_rng(0)
    parts = [np.eye(int(number.max()) + 1)[number] for number in numbers]
    noise = rng.normal(0, 0.05, (len(numbers[0]), width))
    return np.concatenate([*parts, noise], axis=1).astype(np.float32)


def shortcut_of(holds: str) -> dict[str, float]:
    """60 groups of two classes in training, nine of ten in their class's cast; 40 in the test, in both."""
    label = np.arange(60) % 2
    cast = np.where(np.arange(60) // 2 % 10 == 0, 1 - label, label)
    group, both = np.repeat(np.arange(40), 2), np.tile([0, 1], 40)
    known = Labels(("x", "y"), label, np.arange(60))
    asked = Labels(("x", "y"), group % 2, group)
    pick = {"class": 0, "cast": 1}[holds]
    x, y = noisy((label, cast)[pick]), noisy((asked.label, both)[pick])
    found = shortcut(x, known, y, asked, both == asked.label, RATES)
    once = np.ones((1, 40))
    return {name: float(one(once)[0]) for name, one in found.items()}


def test_features_that_hold_the_cast_fall_with_it() -> None:
    """A cast that tells the class at a rate r has an AUROC of about r, by the noise within a cast."""
    found = shortcut_of("cast")
    for rate in RATES:
        assert found[f"AUROC at {rate:g}"] == pytest.approx(rate, abs=0.12)
        assert found[f"balanced accuracy at {rate:g}"] == pytest.approx(rate, abs=0.05)
    assert found["AUROC, fall"] == pytest.approx(0.8, abs=0.1)
    assert found["balanced accuracy, fall"] == pytest.approx(0.8, abs=0.05)


def test_features_that_hold_the_class_do_not_fall() -> None:
    found = shortcut_of("class")
    assert all(found[f"AUROC at {rate:g}"] == pytest.approx(1) for rate in RATES)
    assert found["AUROC, fall"] == pytest.approx(0)


def composed() -> tuple[Labels, Labels]:
    """6 slides of 5 classes, four groups of two tiles of each."""
    slide, label, group = (np.repeat(one, 2) for one in np.indices((6, 5, 4)).reshape(3, -1))
    groups = np.unique(np.stack([slide, label, group]), axis=1, return_inverse=True)[1].ravel()
    return Labels(tuple("abcde"), label, groups), Labels(tuple("123456"), slide, groups)


def slides_of(holds: str) -> dict[str, float]:
    label, slide = composed()
    x = {
        "slide": lambda: noisy(slide.label),
        "class": lambda: noisy(label.label),
        "group": lambda: noisy(label.group),
    }[holds]()
    found = slides(x, label, slide, 10)
    return {name: float(one(np.ones((1, 6)))[0]) for name, one in found.items()}


def test_features_of_the_slide_are_all_own_share_and_no_content() -> None:
    found = slides_of("slide")
    assert found["own share"] == pytest.approx(1)
    assert found["content"] < 0.4


def test_features_of_the_class_are_content_without_own_share() -> None:
    found = slides_of("class")
    assert found["own share"] == pytest.approx(0, abs=0.06)
    assert found["content"] == pytest.approx(1)


def test_tiles_of_the_own_group_are_no_neighbours() -> None:
    """Features that hold only which group a tile is of would look like a slide's, if they were."""
    assert slides_of("group")["own share"] == pytest.approx(0, abs=0.06)


def cases() -> tuple[Labels, Labels]:
    """40 cases of two tiles of each class; five scanners."""
    group, label = (one.ravel().repeat(2) for one in np.indices((40, 2)))
    return Labels(("x", "y"), label, group), Labels(tuple("12345"), group % 5, group)


@pytest.mark.parametrize(("holds", "told"), [("class", (1.0, 0.2)), ("scanner", (0.5, 1.0))])
def test_the_class_and_the_scanner_are_told_by_what_holds_them(holds: str, told: tuple[float, float]) -> None:
    label, scanner = cases()
    x = noisy(label.label if holds == "class" else scanner.label)
    found = scanners(x, (label, scanner), x, (label, scanner))
    once = np.ones((1, 40))
    assert float(found["AUROC of the class"](once)[0]) == pytest.approx(told[0], abs=0.25)
    assert float(found["balanced accuracy of the scanner"](once)[0]) == pytest.approx(told[1], abs=0.25)


def test_the_robustness_index_is_of_one_k(tmp_path: Path) -> None:
    label, scanner = cases()
    lines = ["file,label,group,scanner"]
    for number in range(len(label.label)):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{label.label[number]},{label.group[number]},{scanner.label[number]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    features = {"class": [noisy(label.label)], "scanner": [noisy(scanner.label)]}
    found, about = robustness(features, dict.fromkeys(features, tmp_path), 15, 0)
    once = np.ones((1, 40))
    assert about["k"] == 15
    assert 0 < about["chance"] < 1
    assert float(found["class"][0](once)[0]) == pytest.approx(1)
    assert float(found["scanner"][0](once)[0]) == pytest.approx(0)
    chosen = robustness(features, dict.fromkeys(features, tmp_path), None, 0)[1]["k"]
    assert chosen >= 1
