"""The command that makes again what is missing can be typed as it stands."""

import shlex
from pathlib import Path

import pytest

from pathprep.dataset.remaking import made_again
from pathprep.errors import DatasetError
from pathprep.storage.local import LocalStorage
from pathprep.storage.url import UrlStorage


def test_saved_command_is_given_with_a_folder_that_has_a_space(tmp_path: Path) -> None:
    root = tmp_path / "my dataset"
    root.mkdir()
    (root / "shard.yaml").write_text("# again\nslides:\n- /archive\n")
    said = made_again(LocalStorage(root), "slides")
    config = str(root / "shard.yaml")
    assert shlex.split(said.strip("`")) == ["pathprep", "shard", "--config", config, "--out", str(root)]


@pytest.mark.parametrize(
    ("kind", "command", "inputs"),
    [("slides", "shard", "SLIDES"), ("tiles", "import-tiles", "SOURCE"), ("mixed", "mix", "DATASET...")],
)
def test_a_saved_command_without_paths_asks_for_them(
    tmp_path: Path, kind: str, command: str, inputs: str
) -> None:
    (tmp_path / f"{command}.yaml").write_text("# again, with the paths and the key file\ntile: 256\n")
    said = made_again(LocalStorage(tmp_path), kind, secret=True)
    assert said.startswith(f"`pathprep {command} {inputs} --config ")
    assert ("--pseudonymise KEYFILE`" in said, "--masks or --target" in said) == (kind != "mixed",) * 2


def test_a_saved_command_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "shard.yaml").mkdir()
    said = made_again(LocalStorage(tmp_path), "slides")
    assert said.startswith(f"`pathprep shard SLIDES --out {tmp_path}`")


def test_a_store_that_does_not_answer_leaves_it_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is needed for, such as a damaged dataset.json, is what is to be told."""

    def read(_: UrlStorage, name: str) -> bytes:
        raise DatasetError(f"{name}: access denied")

    monkeypatch.setattr(UrlStorage, "read", read)
    said = made_again(UrlStorage("memory://a/b"), "slides")
    assert said.startswith("`pathprep shard SLIDES --out memory://a/b`")
