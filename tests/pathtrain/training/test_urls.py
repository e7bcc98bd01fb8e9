"""Training from a URL is training from the folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.s3 import bucket, upload
from helpers.toys import TINY, noise, write_dataset

import pathprep
from pathtrain.recipes.load import load
from pathtrain.runs import checkpoint
from pathtrain.training.pretrain import pretrain

SETTINGS = (*TINY, "steps=2", "batch=4", "collapse.every=0", "log_every=1")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    dataset = write_dataset(tmp_path / "dataset", {"a": noise(9), "b": noise(7, seed=1)})
    pathprep.mix([dataset], tmp_path / "mix", tiles_per_shard=5)
    with bucket() as place:
        for kind in ("dataset", "mix"):
            upload(str(tmp_path / kind), f"{place}/{kind}")
        yield place


def weights(run: Path) -> dict[str, torch.Tensor]:
    entry = checkpoint.latest(run)
    assert entry is not None
    found: dict[str, torch.Tensor] = checkpoint.read(run, entry)["student"]["backbone"]
    return found


@pytest.mark.parametrize("kind", ["dataset", "mix"])
def test_two_steps(kind: str, url: str, tmp_path: Path) -> None:
    recipe = load("smoke", SETTINGS)
    assert pretrain(Path(f"{url}/{kind}"), recipe, tmp_path / "there").steps == 2
    pretrain(tmp_path / kind, recipe, tmp_path / "here")
    here, there = weights(tmp_path / "here"), weights(tmp_path / "there")
    assert all(torch.equal(there[name], here[name]) for name in here)
