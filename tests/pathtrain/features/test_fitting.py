"""The MPP that a model sees of tiles: what passes, what is said, what is refused and with which command."""

import logging
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.toys import noise, write_dataset

from pathprep.errors import UsageError
from pathtrain.data.whole_tiles import open_tiles
from pathtrain.evaluate import collapse, knn
from pathtrain.features import fitting
from pathtrain.features.embed import embed
from pathtrain.features.encode import encode
from pathtrain.features.fitting import check_mpp
from pathtrain.params.encoding import How
from pathtrain.runs.model import LoadedModel
from pathtrain.runs.opening import load


@pytest.fixture
def model(run: Path) -> LoadedModel:
    """One of 32 px that was trained at 0.5 MPP, and at 1.0 too."""
    return replace(load(run), name="uni", mpps=(0.5, 1.0), licence="CC", origin="uni")


@pytest.mark.parametrize(
    ("tile", "mpp", "how", "found"),
    [
        (32, 0.5, How(), 0.5),
        (36, 0.5, How(), 0.5625),  # as 256 px tiles are resized to 224 everywhere
        (32, 0.46, How(), 0.46),
        (32, 0.54, How(), 0.54),
        (64, 0.25, How(), 0.5),  # finer, and resized to what it wants
        (64, 0.5, How(), 1.0),  # twice the field: its other MPP
        (64, 0.5, How(size=64), 0.5),
        (40, 0.5, How(short=40), 0.5),  # the centre of a tile at its MPP
    ],
)
def test_tiles_that_it_knows(model: LoadedModel, tile: int, mpp: float, how: How, found: float) -> None:
    assert check_mpp(model, tile, mpp, how, "dataset", "dataset") == pytest.approx(found)


@pytest.mark.parametrize(
    ("tile", "mpp", "how", "message"),
    [
        (
            128,
            0.5,
            How(),
            r"slides: uni would see its tiles \(128 px at 0.5 MPP\) at 2 MPP; it was trained at 0.5, 1. Make "
            r"tiles for it: `pathprep shard SLIDES --out sets/d-mpp0.5-tile32 --mpp 0.5 --tile 32`, or let "
            r"it see these larger: `size` 128, or `any_mpp`",
        ),
        (32, 0.25, How(), r"at 0.25 MPP; .*--mpp 0.5 --tile 32`, or `any_mpp`"),  # cannot be made finer
        (32, 0.25, How(short=40), r"at 0.2 MPP; .*--tile 40`, or `any_mpp`"),
        (32, 4.0, How(), r"at 4 MPP; "),
        (24, 0.5, How(), r"at 0.375 MPP; "),
        (37, 0.5, How(), r"at 0.578 MPP; "),
    ],
)
def test_tiles_of_another_mpp(model: LoadedModel, tile: int, mpp: float, how: How, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_mpp(model, tile, mpp, how, "slides", "sets/d/")
    assert check_mpp(model, tile, mpp, replace(how, any_mpp=True), "slides", "sets/d/") == pytest.approx(
        fitting.seen(model, tile, mpp, how)
    )


def test_a_model_that_says_no_mpp_takes_all(run: Path) -> None:
    assert check_mpp(load(run), 32, 4.0, How(), "slides", "out") is None


def test_what_is_resized_or_taken_all_the_same_is_said_once(
    model: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        check_mpp(model, 64, 0.25, How(), "said/once", "out")
        check_mpp(model, 32, 4.0, How(any_mpp=True), "said/once", "out")
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "said/once: tiles of 64 px at 0.25 MPP are resized to 32 px: 0.5 MPP, for uni"
    assert second.endswith("it was trained at 0.5, 1; `any_mpp` takes them all the same")


def test_embed_and_evaluations_refuse_what_they_would_see_wrongly(model: LoadedModel, tmp_path: Path) -> None:
    tiles = {name: noise(6, seed=seed) for seed, name in enumerate("ab")}
    fine = write_dataset(tmp_path / "fine", tiles, mpp=0.25, stated={"mpp": 0.25})
    for refused in (
        lambda: embed(model, fine, tmp_path / "out"),
        lambda: collapse(model, fine, k=3),
        lambda: encode([model], open_tiles(fine), np.arange(3), How()),
        lambda: knn(model, fine, labels=_labels(tmp_path, "ab"), k=2, baselines="none"),
    ):
        with pytest.raises(UsageError, match=r"at 0.25 MPP; it was trained at 0.5, 1\. Make tiles for it"):
            refused()
    assert not (tmp_path / "out").exists()
    assert embed(model, fine, tmp_path / "out", any_mpp=True).written == 2
    with h5py.File(tmp_path / "out" / "a.h5") as file:  # what it saw
        assert (file.attrs["mpp"], file.attrs["licence"]) == (0.25, "CC")


def _labels(folder: Path, slides: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("slide,label\n" + "".join(f"{slide},{slide}\n" for slide in slides))
    return path


def test_an_evaluation_needs_a_vector_per_tile(run: Path, dataset: Path) -> None:
    with pytest.raises(UsageError, match="`readout` patches: an evaluation needs a vector per tile"):
        collapse(run, dataset, readout="patches")


def test_a_model_of_one_size(model: LoadedModel, dataset: Path) -> None:
    fixed = replace(model, fixed=True, mpps=())
    with pytest.raises(UsageError, match="`size` 64: uni takes images of 32 px alone; leave it out"):
        encode([fixed], open_tiles(dataset), np.arange(2), How(size=64))
    with pytest.raises(UsageError, match="uni takes 32 px alone"):
        fixed(np.zeros((1, 64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize("readout", ["mean", "cls+mean", "blocks:1", "patches"])
def test_read_outs_of_tiles_are_those_of_the_model(run: Path, dataset: Path, readout: str) -> None:
    """Of a run as well; in batches as one by one."""
    model = load(run, readout=readout)
    tiles = open_tiles(dataset)
    (found,), _ = encode([model], tiles, np.arange(5), How(batch=2))
    assert found.shape == (5, *model.shape(32))
    assert found.shape[-1] == model.dim == {"cls+mean": 48}.get(readout, 24)
    assert (found.ndim == 3) == (readout == "patches")
    (plain,), _ = encode([load(run)], tiles, np.arange(5), How())
    if readout == "blocks:1":
        np.testing.assert_allclose(found, plain, atol=1e-5)
    if readout == "patches":
        (mean,), _ = encode([load(run, readout="mean")], tiles, np.arange(5), How())
        np.testing.assert_allclose(found.mean(1), mean, atol=1e-5)
