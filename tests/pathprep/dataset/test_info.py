"""A dataset.json that is damaged, lost or hostile: named with the cure, which recovers everything."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.mixing import content, write

from pathprep.dataset import info
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import build_id
from pathprep.errors import DatasetError, UsageError
from pathprep.sharding.plan import prepare
from pathprep.storage import atomic
from pathprep.storage.seals import sealed


class Given:
    """Parameters of a run, as far as ``prepare`` asks."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def as_dict(self) -> dict[str, Any]:
        return self.values


PARAMS = Given({"tile": 32, "mpp": 0.5, "mode": "resize", "stain": {"mode": "none"}})
OTHER = Given({**PARAMS.values, "tile": 64})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write(tmp_path_factory.mktemp("info"), {"a": 3, "b": 2})
    atomic.write_json(root / info.NAME, info.made(PARAMS.values))
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "d"))


def damage(root: Path, how: str) -> None:
    path, text = root / info.NAME, (root / info.NAME).read_text()
    if how == "gone":
        path.unlink()
        return
    texts = {
        "letter": text.replace('"tile": 32', '"tile": 33'),
        "format": text.replace("pathprep-dataset", "pathprep-datasat"),
        "version": text.replace('"version": 2', '"version": "2"'),
        "cut": text[:-40],
        "empty": "",
    }
    path.write_text(texts[how])


@pytest.mark.parametrize("how", ["letter", "format", "version", "cut", "empty", "gone"])
def test_the_same_command_recovers_all_and_the_message_says_so(root: Path, how: str) -> None:
    before = content(root)
    damage(root, how)
    with pytest.raises(
        DatasetError, match=r"dataset\.json: .*run the same `pathprep` command that made"
    ) as said:
        Dataset(root)
    assert "without --rebuild" in str(said.value)
    assert prepare(root, PARAMS, rebuild=False) == build_id(PARAMS.values)  # type: ignore[arg-type]
    assert content(root) == before
    assert len(Dataset(root)) == 5


@pytest.mark.parametrize("how", ["letter", "cut", "gone"])
def test_another_command_does_not_remake_the_archive(root: Path, how: str) -> None:
    damage(root, how)
    before = content(root)
    with pytest.raises(UsageError, match=r"damaged or gone, .* run the very command that made them"):
        prepare(root, OTHER, rebuild=False)  # type: ignore[arg-type]
    assert content(root) == before
    prepare(root, OTHER, rebuild=True)  # type: ignore[arg-type]
    assert Dataset(root).params == OTHER.values


def test_an_older_dataset_without_a_seal_goes_on_unchanged(root: Path) -> None:
    values = json.loads((root / info.NAME).read_text())
    del values["seal"]
    atomic.write_json(root / info.NAME, values)
    before = content(root)
    prepare(root, PARAMS, rebuild=False)  # type: ignore[arg-type]
    assert content(root) == before
    with pytest.raises(UsageError, match=r"made with other parameters \(tile 32 there, 64 now\)"):
        prepare(root, OTHER, rebuild=False)  # type: ignore[arg-type]


def test_one_without_slides_or_a_foreign_one_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / info.NAME).write_text('{"name": "another tool\'s"}')
    with pytest.raises(DatasetError, match="not written by pathprep"):
        prepare(tmp_path, PARAMS, rebuild=False)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="not written by pathprep"):
        Dataset(tmp_path)
    assert "another tool" in (tmp_path / info.NAME).read_text()


def test_it_is_mended_without_the_command_where_its_parameters_are_intact(root: Path) -> None:
    before = content(root)
    for how in ("format", "version"):
        damage(root, how)
        assert info.mended(root)
        assert content(root) == before
    damage(root, "letter")
    assert not info.mended(root)  # nothing vouches for them


def test_the_version_of_a_lost_one_follows_from_the_tars(root: Path) -> None:
    data = (root / "shards/a.tar").read_bytes()
    (root / "shards/a.tar").write_bytes(data.replace(b"a__0_64.jpg", b"0_64.jpg\0\0\0"))
    (root / info.NAME).unlink()
    with pytest.raises(UsageError, match="a dataset of format version 1, which is still read"):
        prepare(root, PARAMS, rebuild=False)  # type: ignore[arg-type]
    assert Dataset(root).info["version"] == 1


TEXTS = [
    "",
    "[]",
    "null",
    "{}",
    "NaN",
    "1",
    "[" * 100_000,
    '{"a":' * 5000,
    "\xff\xfe{",
    "9" * 5000,
    '{"format":',
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text)[:12])
@pytest.mark.parametrize("name", ["dataset.json", "slides/a.json", "failed/a.json"])
def test_json_that_is_none_is_one_sentence(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text, encoding="latin-1")
    if name == "dataset.json":
        with pytest.raises(DatasetError, match=r"dataset\.json: "):
            Dataset(root)
        return
    data = Dataset(root)
    assert list(data.markers) == (["b"] if name == "slides/a.json" else ["a", "b"])
    assert data.failed() == {}


VALUES = [None, -1, 1.5, float("nan"), float("inf"), 10**4000, "x", "\ud800", [], {}, [[1]], {"a": 1}, True]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:12])
def test_values_of_a_wrong_type_are_damage_even_if_sealed(root: Path, value: Any) -> None:
    values = json.loads((root / info.NAME).read_text())
    for key in info.KEYS:
        odd = {**values, key: value}
        if key == "params":
            odd["build_id"] = build_id(value)
        if key == "params" and isinstance(value, dict):
            continue  # parameters of nothing are parameters
        atomic.write_json(root / info.NAME, sealed(odd))
        with pytest.raises(DatasetError):
            Dataset(root)
        atomic.write_json(root / info.NAME, {k: v for k, v in values.items() if k != key})
        with pytest.raises(DatasetError):
            Dataset(root)
    atomic.write_json(root / info.NAME, values)
    marker = json.loads((root / "slides/a.json").read_text())
    for key in (
        "slide",
        "build_id",
        "source",
        "inputs",
        "counts",
        "stain",
        "files",
        "seconds",
        "grid",
        "tiles",
        "mpp",
        "width",
    ):
        if (
            (key in ("inputs", "counts", "stain", "seconds", "files") and isinstance(value, dict))
            or (key == "build_id" and isinstance(value, str))
            or (key == "mpp" and value in (None, -1, 1.5))
        ):
            continue
        atomic.write_json(root / "slides/a.json", sealed({**marker, key: value}))
        assert list(Dataset(root).markers) == ["b"], key


@pytest.mark.parametrize(
    "name", ["../victim", "/etc/hostname", "shards/../../victim", "shards/b.tar", "shards/x/a.tar"]
)
def test_a_marker_that_names_what_is_not_its_own_is_damage(root: Path, name: str) -> None:
    from pathprep.folders import verify

    marker = json.loads((root / "slides/a.json").read_text())
    marker["files"][name] = {"size": 1, "sha256": "0" * 64}
    atomic.write_json(root / "slides/a.json", sealed(marker))
    assert list(Dataset(root).markers) == ["b"]
    found = {each.slide: each for each in verify(root)}
    assert found["a"].lost
    assert "slides/a.json: damaged" in found["a"].problems[0]


def test_a_marker_under_another_name_is_damage(root: Path) -> None:
    shutil.copy(root / "slides/a.json", root / "slides/c.json")
    assert list(Dataset(root).markers) == ["a", "b"]
