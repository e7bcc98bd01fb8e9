"""Datasets that pages are made of."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.reports import Shard, make, patchy
from helpers.slides import tissue, write_tiff

from pathprep.params.stain import StainMode


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides: two good ones, one without MPP, one of glass, and one that is none, with a name to escape."""
    folder = tmp_path_factory.mktemp("archive")
    write_tiff(folder / "first.tif", patchy(1))
    write_tiff(folder / "second.tif", tissue(384, 512, 2))
    write_tiff(folder / "third.tif", patchy(3), mpp=None)
    write_tiff(folder / "glass.tif", np.full((256, 256, 3), 245, np.uint8))
    (folder / "<b>bold<b>.tif").write_bytes(b"not a slide")
    return folder


@pytest.fixture(scope="session")
def made(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Shard:
    """Datasets of the archive by stain mode, made once."""
    done: dict[str, Path] = {}

    def get(mode: StainMode) -> Path:
        if mode not in done:
            done[mode] = make(archive, tmp_path_factory.mktemp("made") / mode, mode)
        return done[mode]

    return get


@pytest.fixture
def dataset(made: Shard, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(made("bake"), tmp_path / "dataset")
