"""What is kept is what was made; other tiles, models and settings are others; damage is made again."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.toys import labelled_folder, noise, write_dataset, write_run
from PIL import Image

from pathprep.errors import UsageError
from pathtrain import evaluate
from pathtrain.data.whole_tiles import open_tiles
from pathtrain.evaluate import kept_features
from pathtrain.evaluate.cache import Cache, content
from pathtrain.evaluate.units import Scored, Units

GROUPS = {f"g{number}": "pb"[number % 2] for number in range(10)}
FEW = {"iterations": 20, "sgd_batch": 8, "seeds": 2, "random_seeds": 1}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", tmp_path / "gone")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many networks each pass over tiles was for."""
    made: list[int] = []
    plain = kept_features.encode

    def counted(models: Any, *given: Any, **more: Any) -> Any:
        made.append(len(models))
        return plain(models, *given, **more)

    monkeypatch.setattr(kept_features, "encode", counted)
    return made


def test_a_second_evaluation_makes_no_features_and_says_the_same(
    run: Path, tmp_path: Path, passes: list[int]
) -> None:
    labelled_folder(tmp_path / "tiles", GROUPS)
    plain = evaluate.linear(run, tmp_path / "tiles", **FEW)
    given = {"cache": tmp_path / "cache", **FEW}
    first = evaluate.linear(run, tmp_path / "tiles", **given)
    assert passes == [3, 3]
    assert evaluate.linear(run, tmp_path / "tiles", **given) == first == plain
    assert passes == [3, 3]
    evaluate.knn(run, tmp_path / "tiles", k=3, random_seeds=2, cache=tmp_path / "cache")
    assert passes[2:] == [4]  # whole tiles are other images than the centre of a larger one


def test_another_seed_another_tile_and_another_size_are_made(
    run: Path, tmp_path: Path, passes: list[int]
) -> None:
    folder = labelled_folder(tmp_path / "tiles", GROUPS)
    given = {"k": 3, "cache": tmp_path / "cache", "baselines": "random", "random_seeds": 1}
    evaluate.knn(run, folder, **given)
    evaluate.knn(run, folder, **{**given, "random_seeds": 2})
    assert passes == [2, 1]  # the model and one of its random networks are there
    evaluate.knn(run, folder, size=16, **given)
    assert passes == [2, 1, 2]
    changed = next(folder.glob("*.png"), None) or next(folder.rglob("*.jp*g"))
    Image.fromarray(noise(1, 32, seed=99)[0]).save(changed)
    evaluate.knn(run, folder, **given)
    assert passes == [2, 1, 2, 2]


@pytest.mark.parametrize("how", ["cut", "changed", "emptied"])
def test_a_damaged_file_is_made_again_and_said(
    run: Path, tmp_path: Path, passes: list[int], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = labelled_folder(tmp_path / "tiles", GROUPS)
    given = {"k": 3, "cache": tmp_path / "cache", "baselines": "colour"}
    first = evaluate.knn(run, folder, **given)
    for path in (tmp_path / "cache" / "features").iterdir():
        data = bytearray(path.read_bytes())
        at = len(data) // 2
        data[at : at + 4] = bytes(byte ^ 255 for byte in data[at : at + 4])
        path.write_bytes({"cut": data[:at], "changed": data, "emptied": b""}[how])
    with caplog.at_level(logging.WARNING):
        assert evaluate.knn(run, folder, **given) == first
    assert passes == [1, 1]
    assert "made again" in caplog.text


def test_content_of_a_dataset_is_that_of_its_tiles_in_their_order(tmp_path: Path) -> None:
    one = open_tiles(write_dataset(tmp_path / "one", {"a": noise(4, seed=1), "b": noise(3, seed=2)}))
    two = open_tiles(write_dataset(tmp_path / "two", {"a": noise(4, seed=1), "b": noise(3, seed=3)}))
    first, last = np.arange(4), np.arange(4, 7)
    assert content(one, first) == content(two, first) != content(one, first[::-1])
    assert content(one, last) != content(two, last)


def test_results_come_back_with_their_units(tmp_path: Path) -> None:
    units = Units(("a", "b"), np.array([[1.0], [2.0]]), np.array([[2.0], [2.0]]))
    cache = Cache(tmp_path / "cache")
    cache.keep_result("k", Scored({"task": "x", "value": 0.75}, {("model", "accuracy"): units}))
    found = cache.result("k")
    assert found is not None
    assert found.result == {"task": "x", "value": 0.75}
    again = found.units["model", "accuracy"]
    assert again.groups == units.groups
    assert np.array_equal(again.sums, units.sums)
    assert np.array_equal(again.counts, units.counts)
    assert cache.result("other") is None


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="`cache` .*file: cannot be made a folder"):
        Cache(tmp_path / "file")
