"""Features are called after the slides' own names, as CLAM and TRIDENT look them up; tables find either."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.toys import noise, write_dataset

from pathprep.dataset.marker import SlideMarker
from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.slides.own_names import SlideNames, safe_name
from pathprep.storage import atomic
from pathprep.storage.seals import sealed
from pathtrain.evaluate.slide_level.tasks import Task, read_tasks
from pathtrain.features.bags import Bags
from pathtrain.features.embed import embed
from pathtrain.features.own_names import file_names

TCGA = "TCGA-AA-1000-01Z-00-DX1.00000000-38cf-40ea-8213-45c2b100ac01"
OWN = [TCGA, "胃癌一号", "Müller A1", "x" * 240]


def named(root: Path, own: dict[str, str]) -> Path:
    """Markers that hold own names; slide -> its own."""
    for slide, marker in Dataset(root).markers.items():
        assert isinstance(marker, SlideMarker)
        new = replace(marker, own_name=own[slide], slide_id=slide.partition("_mpp")[0])
        atomic.write_json(root / "slides" / f"{slide}.json", sealed(new.as_dict()))
    return root


def test_files_and_attributes_have_own_names_and_tables_find_them(tmp_path: Path, run: Path) -> None:
    own = {safe_name(name): name for name in OWN}
    root = write_dataset(tmp_path / "d", {slide: noise(2, seed=n) for n, slide in enumerate(own)})
    embed(run, named(root, own), tmp_path / "f", device="cpu")
    there = {path.stem for path in (tmp_path / "f").iterdir()}
    assert there == {*OWN[:3], safe_name(OWN[3])}
    with h5py.File(tmp_path / "f" / f"{TCGA}.h5") as file:
        assert file["coords"].attrs["name"] == TCGA
        assert file.attrs["slide"] == TCGA.replace(".", "_")
    assert embed(run, root, tmp_path / "f", device="cpu").kept == 4
    bags = Bags.open(tmp_path / "f")
    assert bags.names == set(own)
    assert len(bags.read(safe_name("胃癌一号"))) == 2
    for table in ([*OWN[:3], safe_name(OWN[3])], [*own], [f"{name}.svs" for name in own.values()]):
        rows = [f'"{slide}",{"t" if n % 2 else "n"}' for n, slide in enumerate(table)]
        (tmp_path / "l.csv").write_text("\n".join(["slide_id,label", *rows]), encoding="utf-8")
        (task,) = read_tasks([tmp_path / "l.csv"], None, Dataset(root).slide_names(own))
        assert isinstance(task, Task)
        assert sorted(task.slides) == sorted(own)


def test_names_that_several_slides_share(tmp_path: Path) -> None:
    slides = ["A_mpp0-5", "A_mpp1", "B-11111111", "B-22222222"]
    root = write_dataset(tmp_path / "d", {slide: noise(1) for slide in slides})
    named(root, {"A_mpp0-5": "A", "A_mpp1": "A", "B-11111111": "B", "B-22222222": "B"})
    assert file_names(Dataset(root), slides) == {slide: slide for slide in slides}
    with pytest.raises(UsageError, match="slide B may be B-11111111 or B-22222222"):
        Dataset(root).slide_names(slides).find("B")


def test_features_of_other_tools(tmp_path: Path) -> None:
    for name in (TCGA, "胃癌"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["features"] = np.zeros((3, 4), np.float32)
    names = Bags.open(tmp_path).names
    assert isinstance(names, SlideNames)
    assert {names.find(TCGA), names.find("胃癌.svs")} == names == {safe_name(TCGA), safe_name("胃癌")}
    with h5py.File(tmp_path / f"{safe_name(TCGA)}.h5", "w") as file:
        file["features"] = np.zeros((3, 4), np.float32)
    with pytest.raises(UsageError, match="a second file of slide TCGA"):
        Bags.open(tmp_path)
