"""Parsers of what the project writes itself, with hashes put right again: what a hostile file would do."""

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz import mutate
from fuzz.parser import Mutate, Parser
from helpers.toys import write_run

import pathprep
import pathtrain
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import build_id
from pathprep.errors import PathprepError
from pathprep.stain import Target
from pathprep.storage.seals import sealed
from pathprep.synth.archive import MIN_SIZE
from pathprep.testing import small_dataset
from pathtrain.runs import checkpoint
from pathtrain.training import logs

MARKER, INDEX, TAR = "slides/synth-000.json", "index/synth-000.parquet", "shards/synth-000.tar"
PT = "checkpoints/00000020.pt"


def resealed(value: Any) -> Any:
    """With the seal of what it says now."""
    return sealed(value) if isinstance(value, dict) and "seal" in value else value


def of_sealed(rng: np.random.Generator, data: bytes, others: Sequence[bytes]) -> bytes:
    """Strange values whose seal holds."""
    return mutate.of_json(rng, data, others, resealed)


def with_build(value: Any) -> Any:
    """Parameters with the build id that they have now."""
    if isinstance(value, dict) and "params" in value:
        value["build_id"] = build_id(value["params"])
    return resealed(value)


def of_dataset_json(rng: np.random.Generator, data: bytes, others: Sequence[bytes]) -> bytes:
    """Strange parameters whose build id is right."""
    return mutate.of_json(rng, data, others, with_build)


def with_mix(value: Any) -> Any:
    """A plan with the mix id that it has now."""
    if isinstance(value, dict) and "plan" in value:
        value["mix_id"] = build_id(value["plan"])
    return resealed(value)


def of_mixed_json(rng: np.random.Generator, data: bytes, others: Sequence[bytes]) -> bytes:
    """Strange accounts of a mix whose ids are right."""
    return mutate.of_json(rng, data, others, with_mix)


@cache
def _sharded() -> Path:
    """A slide, sharded; made once a process, and left to the folder of temporary files."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-made-"))
    atexit.register(shutil.rmtree, place, True)
    return small_dataset(place, 1, size=MIN_SIZE)


def dataset(folder: Path) -> Path:
    """A dataset of one slide."""
    return Path(shutil.copytree(_sharded(), folder / "dataset"))


def one_file(name: str) -> Callable[[Path], list[bytes]]:
    """Examples: the dataset's files that a pattern finds."""
    return lambda folder: [path.read_bytes() for path in sorted(dataset(folder).glob(name))]


def put(
    folder: Path, scope: str, name: str, data: bytes, also: Callable[[Path], None] = lambda root: None
) -> Path:
    """A fresh copy of a folder with one file that is drawn."""
    root = folder / "now"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(folder / scope, root)
    (root / name).write_bytes(data)
    also(root)
    return root


def read_all(root: Path) -> None:
    """Open it, and look at everything."""
    data = pathprep.open(root)
    for tile in data:
        assert len(tile.jpeg)
    for slide in data.slides:
        data.table(slide)
    if isinstance(data, Dataset):
        data.failed()
        for slide in data.slides:
            data.dropped(slide)
    data.labels()


def looked_at(root: Path) -> None:
    """Each of several readers may refuse; one that does has the last word."""
    refused = None
    looks = [read_all, lambda root: list(pathprep.verify(root))]
    if (root / "dataset.json").exists():
        looks.append(lambda root: pathprep.report(root))
    for look in looks:
        try:
            look(root)
        except PathprepError as error:
            refused = error
    if refused is not None:
        raise refused


def in_dataset(name: str) -> Callable[[bytes, Path], None]:
    """Reads a dataset of which one file is drawn."""
    return lambda data, folder: looked_at(put(folder, "dataset", name, data))


def vouched(name: str) -> Callable[[bytes, Path], None]:
    """As ``in_dataset``, for a file that its slide's marker vouches for."""

    def also(root: Path) -> None:
        path = root / MARKER
        marker = json.loads(path.read_bytes())
        data = (root / name).read_bytes()
        marker["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        path.write_text(json.dumps(sealed(marker)))

    return lambda data, folder: looked_at(put(folder, "dataset", name, data, also))


def failures(folder: Path) -> list[bytes]:
    """A quarantine file, as sharding and importing write it."""
    dataset(folder)
    source = {"path": "/slides/c.svs", "size": 10}
    plain = {"stage": "open", "kind": "SlideError", "error": "no slide", "attempts": 1, "slide": "c"}
    about = {**plain, "source": source, "build_id": "0" * 16}
    images = {
        **about,
        "kind": "images",
        "set": "s",
        "split": "train",
        "images": [{"image": "a.png", "error": "no"}],
    }
    return [json.dumps(sealed(each)).encode() for each in (about, images)]


def mixes(name: str) -> Callable[[Path], list[bytes]]:
    """Examples: files of a mix."""

    def make(folder: Path) -> list[bytes]:
        pathprep.mix([dataset(folder)], folder / "mixed", tiles_per_shard=20)
        return [path.read_bytes() for path in sorted((folder / "mixed").glob(name))]

    return make


def in_mix(name: str) -> Callable[[bytes, Path], None]:
    """Reads a mix of which one file is drawn."""
    return lambda data, folder: looked_at(put(folder, "mixed", name, data))


def runs(name: str) -> Callable[[Path], list[bytes]]:
    """Examples: files of a run, or of its export."""

    def make(folder: Path) -> list[bytes]:
        write_run(folder / "run", folder / "gone")  # a report would draw views of a dataset
        pathtrain.export(folder / "run", folder / "model")
        target = Target.default()
        target.save(folder / "target.json")
        return [path.read_bytes() for path in sorted(folder.glob(name))]

    return make


def in_run(name: str, also: Callable[[Path], None] = lambda root: None) -> Callable[[bytes, Path], None]:
    """Loads a run of which one file is drawn, reports on it, and exports it."""

    def parse(data: bytes, folder: Path) -> None:
        root = put(folder, "run", name, data, also)
        refused = None
        for look in (
            pathtrain.load,
            checkpoint.load,
            logs.rows,
            lambda root: pathtrain.report(root),
            lambda root: pathtrain.export(root, root / "out"),
            lambda root: pathtrain.compare([root, folder / "run"], root / "compare.html"),
        ):
            try:
                look(root)
            except PathprepError as error:
                refused = error
        if refused is not None:
            raise refused

    return parse


def rehashed(root: Path) -> None:
    """The account of a checkpoint vouches for the bytes that it has now."""
    path = root / "checkpoints" / "00000020.json"
    account = json.loads(path.read_bytes())
    account["sha256"] = hashlib.sha256((root / "checkpoints" / "00000020.pt").read_bytes()).hexdigest()
    path.write_text(json.dumps(resealed(account)))


def in_model(name: str) -> Callable[[bytes, Path], None]:
    """Loads an exported model of which one file is drawn."""
    return lambda data, folder: pathtrain.load(put(folder, "model", name, data))


def target(data: bytes, folder: Path) -> None:
    (folder / "t.json").write_bytes(data)
    Target.load(folder / "t.json")


def _of(name: str, examples: Any, parse: Any, how: Mutate = mutate.of_bytes, *names: str) -> Parser:
    return Parser(name, examples, parse, how, names=names)


PARSERS = {
    parser.name: parser
    for parser in (
        _of(
            "dataset.json",
            one_file("dataset.json"),
            in_dataset("dataset.json"),
            of_dataset_json,
            "dataset.json",
            "now",  # of another version, or none: the folder is named
        ),
        _of("markers", one_file("slides/*.json"), in_dataset(MARKER), of_sealed, "synth-000"),
        _of("quarantine", failures, in_dataset("failed/c.json"), of_sealed, "c.json"),
        _of("indexes of tiles", one_file("index/*.parquet"), vouched(INDEX), mutate.of_bytes, "synth-000"),
        _of("shards", one_file("shards/*.tar"), vouched(TAR), mutate.of_bytes, "synth-000"),
        _of("mixed.json", mixes("mixed.json"), in_mix("mixed.json"), of_mixed_json, "mixed.json", "now"),
        _of(
            "mixed indexes",
            mixes("index/*.parquet"),
            in_mix("index/mixed-000000.parquet"),
            mutate.of_bytes,
            "mixed-000000",
        ),
        _of("checkpoints", runs(f"run/{PT}"), in_run(PT, rehashed), mutate.of_bytes, "00000020", "now"),
        _of(
            "accounts of checkpoints",
            runs("run/checkpoints/0*.json"),
            in_run("checkpoints/00000020.json"),
            of_sealed,
            "checkpoint",
        ),
        _of("run.json", runs("run/run.json"), in_run("run.json"), of_sealed, "run.json", "recipe.yaml"),
        _of("log.jsonl", runs("run/log.jsonl"), in_run("log.jsonl"), mutate.of_text, "log.jsonl"),
        _of(
            "config.json of a model",
            runs("model/config.json"),
            in_model("config.json"),
            of_sealed,
            "config.json",
            "now",
        ),
        _of(
            "safetensors",
            runs("model/model.safetensors"),
            in_model("model.safetensors"),
            mutate.of_bytes,
            "now",
        ),
        _of("stain target", runs("target.json"), target, of_sealed, "t.json"),
    )
}
