"""`import pathtrain` gives what the commands run, and takes no time."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.toys import TINY, noise, write_dataset, write_run

import pathtrain
from pathprep.errors import UsageError
from pathtrain.data.whole_tiles import DatasetTiles
from pathtrain.errors import RecipeError
from pathtrain.images import decode


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    slides = {name: noise(12, 32, seed=seed) for seed, name in enumerate("abc")}
    return write_dataset(tmp_path / "dataset", slides)


@pytest.fixture
def run(tmp_path: Path, dataset: Path) -> Path:
    return write_run(tmp_path / "run", dataset)


def test_importing_it_loads_nothing_and_every_name_is_there() -> None:
    code = (
        "import sys, pathtrain, pathtrain.evaluate, pathtrain.params.evaluation\n"
        "assert not {'torch', 'numpy', 'pydantic'} & sys.modules.keys()\n"
        "for package in (pathtrain, pathtrain.evaluate):\n"
        "    for name in package.__all__:\n"
        "        assert name in dir(package)\n"
        "        getattr(package, name)\n"
        "import pathtrain.evaluate.slide_level.study, pathtrain.reports.page\n"
        "assert callable(pathtrain.report) and callable(pathtrain.evaluate.slides)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        pathtrain.train  # noqa: B018


def test_a_model_gives_the_features_that_embed_writes(dataset: Path, run: Path, tmp_path: Path) -> None:
    model = pathtrain.load(str(run))
    done = pathtrain.embed(model, str(dataset), str(tmp_path / "features"), batch=12)
    assert (done.written, done.as_dict()["processes"]) == (3, 1)
    source = DatasetTiles(dataset)
    tiles = np.stack([decode(source.read(number), "") for number in range(12)])
    with h5py.File(tmp_path / "features" / "a.h5") as file:
        assert np.array_equal(model.to("cpu")(tiles), file["features"][()])
    for wrong in (tiles / 255, tiles[0], tiles[:, :30]):
        with pytest.raises(UsageError, match="`tiles`"):
            model(wrong)


def test_pretrain_takes_names_and_values(dataset: Path, tmp_path: Path) -> None:
    values = {
        "model.kwargs": {"img_size": 32, "patch_size": 16, "depth": 1, "embed_dim": 24, "num_heads": 2},
        "views.globals.size": 32,
        "views.locals.size": 16,
        "steps": 1,
        "batch": 4,
    }
    done = pathtrain.pretrain(str(dataset), "smoke", str(tmp_path / "run"), settings=values)
    assert (done.resumed_from, done.steps) == (0, 1)
    again = pathtrain.pretrain(
        dataset, out=tmp_path / "run", settings=[*TINY, "steps=1", "batch=4"]
    )  # the same
    assert (again.resumed_from, again.loss) == (1, None)
    with pytest.raises(RecipeError, match="optim.lr: Input should be greater than 0"):
        pathtrain.pretrain(dataset, settings={"optim.lr": 0})


def test_evaluations_take_folders_and_flat_settings(dataset: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("slide,label\na,x\nb,y\nc,x\n")
    found = pathtrain.evaluate.knn(str(run), str(dataset), labels=str(tmp_path / "labels.csv"), k=3, batch=7)
    assert (found["k"], found["test_tiles"], found["classes"]) == (3, 36, ["x", "y"])
    json.dumps(found)
    result = pathtrain.evaluate.collapse(run, dataset, k=3, tiles_per_slide=5, out=tmp_path / "out")
    assert result["tsne"] == {"file": "tsne.png", "tiles": 15}
    assert (tmp_path / "out" / "tsne.png").stat().st_size > 1000
    assert "tsne" not in pathtrain.evaluate.collapse(run, dataset, k=3, tiles_per_slide=5)
    with pytest.raises(UsageError, match="`bach`: no such parameter; did you mean `batch`"):
        pathtrain.evaluate.knn(run, dataset, bach=3)


def test_regions_are_of_runs(dataset: Path, run: Path, tmp_path: Path) -> None:
    pathtrain.export(str(run), str(tmp_path / "model"))
    with pytest.raises(UsageError, match="model: an exported model has no regions; give its run"):
        pathtrain.embed(pathtrain.load(tmp_path / "model"), dataset, level="region")
    with pytest.raises(UsageError, match="`batch` is for `level` tile"):
        pathtrain.embed(run, dataset, level="slide", batch=3)
    with pytest.raises(UsageError, match="`level` is 'regions'; give tile, region or slide"):
        pathtrain.embed(run, dataset, level="regions")  # type: ignore[arg-type]
