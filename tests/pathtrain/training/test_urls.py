"""Training from a URL is training from the folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.s3 import bucket, upload
from helpers.toys import noise, write_dataset

import pathprep
from pathtrain.runs import checkpoint
from pathtrain.testing import small_run


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
    there = weights(small_run(f"{url}/{kind}", tmp_path / "there", 2, "batch=4"))
    here = weights(small_run(tmp_path / kind, tmp_path / "here", 2, "batch=4"))
    assert all(torch.equal(there[name], here[name]) for name in here)
