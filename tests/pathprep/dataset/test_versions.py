"""Keys of tiles, and datasets of format version 1, which had other ones."""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import webdataset as wds
from helpers.mixing import write
from helpers.slides import tissue, write_tiff
from helpers.tilesets import saved
from helpers.versions import as_version_1
from nvidia.dali import fn, pipeline_def

import pathprep
from pathprep.dataset.verify import verify
from pathprep.errors import DatasetError, UsageError

# webdataset leaves its file to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SLIDES = {"A": 1, "B": 1, "C": 3}  # A's last tile and B's first have the same corner


def names_in(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_no_two_tiles_of_a_dataset_share_a_key(tmp_path: Path) -> None:
    write(tmp_path, SLIDES)
    tars = sorted((tmp_path / "shards").glob("*.tar"))
    members = [name for tar in tars for name in names_in(tar)]
    assert members == ["A__0_64.jpg", "B__0_64.jpg", *(f"C__{32 * n}_64.jpg" for n in range(3))]
    # webdataset up to 0.2.86 takes all tars as one stream, and raises where a name comes again
    samples = [sample["__key__"] for sample in wds.WebDataset([*map(str, tars)], shardshuffle=False)]
    assert samples == [name.removesuffix(".jpg") for name in members]
    lines = [line for tar in tars for line in tar.with_suffix(".idx").read_text().splitlines()[1:]]
    assert [line.split()[-1] for line in lines] == members


def test_dali_reads_all_tars_at_once(tmp_path: Path) -> None:
    write(tmp_path, SLIDES)
    tars = sorted((tmp_path / "shards").glob("*.tar"))

    @pipeline_def(batch_size=5, num_threads=1, device_id=None)
    def read() -> Any:
        paths = {"paths": [*map(str, tars)], "index_paths": [str(tar.with_suffix(".idx")) for tar in tars]}
        return fn.decoders.image(fn.readers.webdataset(**paths, ext=["jpg"]))

    pipe = read()
    pipe.build()
    expected = [simplejpeg.decode_jpeg(each.jpeg) for each in pathprep.open(tmp_path)]
    for image, wanted in zip(pipe.run()[0], expected, strict=True):
        np.testing.assert_array_equal(np.asarray(image), wanted)


def test_version_1_is_read(tmp_path: Path) -> None:
    new, old = write(tmp_path / "new", SLIDES), as_version_1(write(tmp_path / "old", SLIDES))
    assert names_in(old / "shards" / "C.tar") == ["0_64.jpg", "32_64.jpg", "64_64.jpg"]
    assert [each.jpeg for each in pathprep.open(old)] == [each.jpeg for each in pathprep.open(new)]
    assert not any(found.problems or found.tiles for found in verify(old))
    streams = [[*pathprep.open(root).webdataset(shuffle=0)] for root in (old, new)]
    assert [s["__key__"] for s in streams[0]] == [s["__key__"] for s in streams[1]]
    mixes = [pathprep.mix([root], tmp_path / f"mix of {root.name}") for root in (old, new)]
    assert len({json.dumps(mix.as_dict().get("files"), default=str) for mix in mixes}) == 1
    tars = [next((tmp_path / f"mix of {root.name}" / "shards").glob("*.tar")) for root in (old, new)]
    assert tars[0].read_bytes() == tars[1].read_bytes()


def test_verify_looks_for_the_keys_of_the_version(tmp_path: Path) -> None:
    write(tmp_path, SLIDES)
    info = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**info, "version": 1}))
    lines = [line for found in verify(tmp_path) for line in (*found.problems, *found.tiles)]
    assert sum("holds no such member" in line for line in lines) == 5
    assert sum("differs from the index of tiles" in line for line in lines) == 3


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    write(tmp_path, SLIDES)
    info = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**info, "version": 3}))
    with pytest.raises(DatasetError, match="format version 3, this pathprep reads up to version 2"):
        pathprep.open(tmp_path)


def test_nothing_is_added_to_version_1(tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "a.tif", tissue(256, 256))
    settings: dict[str, Any] = {"stain": "none", "tile": 64, "workers": 1}
    root = tmp_path / "ds"
    pathprep.shard(slide, root, **settings)
    as_version_1(root)
    with pytest.raises(
        UsageError, match="format version 1, which is still read.*another `out`, or `rebuild`"
    ):
        pathprep.shard(slide, root, **settings)
    pathprep.shard(slide, root, **settings, rebuild=True)
    assert json.loads((root / "dataset.json").read_text())["version"] == 2
    assert not any(found.problems or found.tiles for found in verify(root))


def test_nor_are_imported_tiles(tmp_path: Path) -> None:
    for label in ("adi", "tum"):
        (tmp_path / "set" / label).mkdir(parents=True)
        pixels = np.full((32, 32, 3), len(label), np.uint8)
        (tmp_path / "set" / label / "1.png").write_bytes(saved(pixels, "PNG"))
    pathprep.import_tiles(tmp_path / "set", tmp_path / "ds", workers=1)
    as_version_1(tmp_path / "ds")
    with pytest.raises(UsageError, match="format version 1, which is still read"):
        pathprep.import_tiles(tmp_path / "set", tmp_path / "ds", workers=1)
    pathprep.import_tiles(tmp_path / "set", tmp_path / "ds", workers=1, rebuild=True)
    assert not any(found.problems or found.tiles for found in verify(tmp_path / "ds"))
