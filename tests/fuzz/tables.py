"""Parsers of what people write: recipes, tables, lists of tasks, outlines, URLs and the command line."""

import io
import json
import shlex
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import typer
import yaml
from fuzz import mutate
from fuzz.parser import Parser

from pathprep.errors import MaskError, PathprepError, UsageError
from pathprep.scores.placed import place
from pathprep.scores.read import read_scores
from pathprep.slides import find
from pathprep.slides.masks import load_mask
from pathprep.storage import tables
from pathprep.storage.base import is_url
from pathprep.storage.place import storage_at
from pathtrain.data import slide_labels
from pathtrain.errors import RecipeError
from pathtrain.evaluate.papers import study_file
from pathtrain.evaluate.slide_level.task_file import read_task_file
from pathtrain.evaluate.slide_level.tasks import read_tasks
from pathtrain.recipes.load import dump, load

KNOWN = {f"S-{n}" for n in range(8)}
SLIDE_TABLE = "slide_id,patient_id,split,organ,msi\n" + "".join(
    f"S-{n},p{n // 2},{'train' if n < 6 else 'test'},{'gut' if n % 2 else 'lung'},{'MSI' if n % 3 else ''}\n"
    for n in range(8)
)
OTHER_TABLE = '#comment\nSlide ID;Patient ID;label\n"S-1";"a;b";1.0\nS-2;c;0\nS-3;d;1\nS-4;e;0\n'
LISTS = ('slide,mpp,mask,mask_origin\na.svs,0.25,,auto\nb.tif,"0,5",m.png,slide\n', "slide\na.svs\nb.tif\n")
TASKS = (
    "tasks:\n  - name: LUAD\n    labels: a.csv\n    column: label\n    positive: mutant\n    split: split\n"
)
PLACES = "pcam: {train: pcam, test: pcam}\nmhist:\n  train: pcam\n"
SQUARE = [[10, 10], [300, 10], [300, 200], [10, 200], [10, 10]]
SCORES = (
    "slide,x,y,side,p,cluster\na,0,64,64,0.5,1\na,64,64,64,,2\n",
    "Slide ID;X;Y;Tile side;attention\na.svs;0;0;64;0,25\na.svs;64;0;64;0,5\n",
)
OUTLINES = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [SQUARE, [[50, 50], [90, 50], [90, 90], [50, 50]]],
            },
            "properties": {"classification": {"name": "Tumor"}},
        },
        {
            "type": "Feature",
            "geometry": {"type": "MultiPolygon", "coordinates": [[SQUARE]]},
            "properties": None,
        },
    ],
}

# typer brings its own copy of click: what a wrong word on the command line raises
USAGE = tuple(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def written(data: bytes, path: Path) -> Path:
    """The file of an input."""
    path.write_bytes(data)
    return path


def recipes(_: Path) -> list[bytes]:
    """Those that come with the package, and a small one with everything written out."""
    folder = resources.files("pathtrain.recipes")
    found = [entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    return [*found, dump(load("smoke")).encode()]


def of_recipe(rng: np.random.Generator, data: bytes, others: Sequence[bytes]) -> bytes:
    """A recipe with strange values, or strange text."""
    if rng.random() < 0.5:
        return yaml.safe_dump(mutate.of_value(rng, yaml.safe_load(data))).encode("utf-8", "surrogatepass")
    return mutate.of_text(rng, data, others)


def overrides(_: Path) -> list[bytes]:
    """Values as --set takes them."""
    return [
        b"optim.lr=0.001",
        b"model.kwargs={depth: 2}",
        b"steps=20",
        b"views.globals.size=32",
        b"probes=[]",
    ]


def override(data: bytes, _: Path) -> None:
    load("smoke", [data.decode("utf-8", "replace")])


def slide_table(data: bytes, folder: Path) -> None:
    """Labels as training and as the study of slides read them; either may refuse."""
    path = written(data, folder / "labels.csv")
    refused = None
    for read in (lambda: slide_labels.read(path, KNOWN), lambda: read_tasks([path], None, KNOWN)):
        try:
            read()
        except UsageError as error:
            refused = error
    if refused is not None:
        raise refused


def scores(path: Path) -> None:
    """A file of scores as the viewer takes it, on a slide."""
    found = read_scores(path)
    place(path, "a", found.only("a"), 1000, 1000)


def scores_parquet(_: Path) -> list[bytes]:
    file = io.BytesIO()
    pq.write_table(pa_csv.read_csv(io.BytesIO(SCORES[0].encode())), file)
    return [file.getvalue()]


def scores_hdf5(folder: Path) -> list[bytes]:
    """As CLAM writes them."""
    path = folder / "example.h5"
    with h5py.File(path, "w") as file:
        file["coords"] = np.array([[0, 0], [64, 0], [0, 64]])
        file["coords"].attrs.update({"patch_size": 64, "patch_level": 0, "name": "a"})
        file.create_dataset(
            "attention_scores", data=np.array([[0.1], [0.5], [0.9]]), chunks=(2, 1), compression="gzip"
        )
    return [path.read_bytes()]


def parquets(_: Path) -> list[bytes]:
    """The tables as Parquet: plain, dictionaries, and compressed."""
    table = pa_csv.read_csv(io.BytesIO(SLIDE_TABLE.encode()))
    coded = table.set_column(0, "slide_id", table["slide_id"].dictionary_encode())
    found = []
    for each, options in ((table, {}), (coded, {"compression": "zstd"}), (table, {"use_dictionary": False})):
        file = io.BytesIO()
        pq.write_table(each, file, **options)
        found.append(file.getvalue())
    return found


def outlines(data: bytes, folder: Path) -> None:
    load_mask(written(data, folder / "m.geojson"), 700, 350, (14, 28))


def packed_outlines(_: Path) -> list[bytes]:
    import gzip

    return [gzip.compress(json.dumps(OUTLINES).encode()), json.dumps(OUTLINES).encode()]


def place_files(folder: Path) -> list[bytes]:
    (folder / "pcam").mkdir()
    (folder / "pcam" / "labels.csv").write_text("file,label\n")
    return [PLACES.encode()]


def urls(_: Path) -> list[bytes]:
    """No protocol that would reach for the network when it is opened."""
    return [
        b"memory://a/b",
        b"file:///nowhere/b",
        b"/nowhere/dataset",
        b"memory://a",
        b"simplecache::memory://a/b",
    ]


def url(data: bytes, _: Path) -> None:
    text = data.decode("utf-8", "replace")
    if not is_url(text) or "\0" in text:  # a path, or what no command line can hold
        raise UsageError("no URL")
    if any(
        word in text.lower()
        for word in ("sftp", "ftp", "ssh", "smb", "http", "hdfs", "dask", "git", "jlab", "hf:")
    ):
        return
    storage_at(text).exists("dataset.json")


COMMANDS = (
    "pathprep shard {} --out o --tile 256 --mpp 0.5 --overlap 0 --stain fit --workers 1 --seed 1",
    "pathprep import-tiles {} --out o --tiles-per-shard 10 --quality 90 --part 1/2 --format csv --name x",
    "pathprep mix {} --out o --tiles-per-shard 100 --memory 0.1 --seed 3 --workers 1",
    "pathprep inspect {} --json",
    "pathprep overlay {} {} --out o --score x --side 64 --opacity 0.5",
    "pathtrain scores clusters {} --count 3 --out o.csv",
    "pathprep verify {}",
    "pathprep repair {} --workers 1 --slide-timeout 5",
    "pathprep report {} --out o.html",
    "pathprep target {} --out t.json --alpha 1 --beta 0.15 --io 240 --keep all",
    "pathtrain pretrain {} --recipe smoke --out o --set steps=3 --set optim.lr=0.1",
    "pathtrain embed {} {} --out o --format hdf5 --batch 8 --precision float32 --level tile",
    "pathtrain export {} --out o",
    "pathtrain report {}",
    "pathtrain compare {} {}",
    "pathtrain evaluate knn {} --train {} --labels {} --k 5 --seed 0",
    "pathtrain evaluate linear {} --train {} --iterations 3 --lr 0.1 --seeds 1",
    "pathtrain evaluate slides {} --labels {} --folds 3 --seeds 1",
    "pathtrain evaluate table {} --tasks {}",
    "pathtrain evaluate segmentation {} --train {} --size 32 --steps 3 --seeds 1 --classes 1=a,2=b",
    "pathtrain lr-range {} --recipe smoke --out o",
)


def command_lines(folder: Path) -> list[bytes]:
    """Every command, of what is not there; no example gets further than its values."""
    (folder / "empty").mkdir()
    return [command.format(*["empty"] * 3).encode() for command in COMMANDS]


def of_command(rng: np.random.Generator, data: bytes, others: Sequence[bytes]) -> bytes:
    """A word or two of a command line become something else."""
    words = data.decode().split()
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(1, len(words)))
        other = mutate.one_of(rng, [word for line in others for word in line.decode().split()[1:]])
        strange = (
            mutate.one_of(rng, mutate.TEXTS),
            mutate.one_of(rng, mutate.NUMBERS),
            other,
            "nan",
            "-5",
            "1e400",
        )
        words[at] = str(mutate.one_of(rng, strange))
    return json.dumps(words).encode()


def command_line(data: bytes, folder: Path) -> None:
    """Exit codes of usage are errors too; what a command prints is not looked at."""
    import contextlib
    import os

    from pathprep.cli import app as prep
    from pathtrain.cli import app as train

    text = data.decode("utf-8", "replace")
    words = json.loads(text) if text.startswith("[") else shlex.split(text)
    program, *arguments = (str(word).encode("utf-8", "replace").decode() for word in words)
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            (train if program == "pathtrain" else prep)(arguments, standalone_mode=False)
        except (*USAGE, typer.Exit, SystemExit) as error:
            raise UsageError(str(error)) from None
        except OSError as error:  # the command says it in one line
            if error.filename is None and error.errno is None:
                raise
            raise UsageError(str(error)) from None
        except PathprepError as error:
            if not text.startswith("["):
                return  # the examples name what is not there
            raise UsageError(str(error)) from None


def texts(*found: str) -> Any:
    """Examples that are there."""
    return lambda _: [text.encode() for text in found]


PARSERS = {
    parser.name: parser
    for parser in (
        Parser(
            "recipe",
            recipes,
            lambda d, f: load(written(d, f / "r.yaml")),
            of_recipe,
            (RecipeError,),
            ("r.yaml",),
        ),
        Parser("recipe overrides", overrides, override, mutate.of_text, (RecipeError,)),
        Parser(
            "slide labels, CSV",
            texts(SLIDE_TABLE, OTHER_TABLE),
            slide_table,
            mutate.of_text,
            names=("labels.csv",),
        ),
        Parser(
            "tables, Parquet",
            parquets,
            lambda d, f: tables.read(written(d, f / "t.parquet")),
            names=("t.parquet",),
        ),
        Parser(
            "tables, TSV",
            texts(SLIDE_TABLE.replace(",", "\t"), OTHER_TABLE),
            lambda d, f: tables.read(written(d, f / "t.tsv")),
            mutate.of_text,
            names=("t.tsv",),
        ),
        Parser(
            "scores, CSV",
            texts(*SCORES),
            lambda d, f: scores(written(d, f / "s.csv")),
            mutate.of_text,
            names=("s.csv",),
        ),
        Parser(
            "scores, Parquet",
            scores_parquet,
            lambda d, f: scores(written(d, f / "s.parquet")),
            names=("s.parquet",),
        ),
        Parser("scores, HDF5", scores_hdf5, lambda d, f: scores(written(d, f / "s.h5")), names=("s.h5",)),
        Parser(
            "lists of slides",
            texts(*LISTS),
            lambda d, f: find._read_csv(written(d, f / "l.csv")),
            mutate.of_text,
            names=("l.csv",),
        ),
        Parser(
            "task file",
            texts(TASKS),
            lambda d, f: read_task_file(str(written(d, f / "t.yaml"))),
            of_recipe,
            names=("t.yaml",),
        ),
        Parser(
            "places of tasks",
            place_files,
            lambda d, f: study_file.find(written(d, f / "p.yaml")),
            of_recipe,
            names=("p.yaml",),
        ),
        Parser(
            "outlines", texts(json.dumps(OUTLINES)), outlines, mutate.of_json, (MaskError,), ("m.geojson",)
        ),
        Parser("outlines, packed", packed_outlines, outlines, errors=(MaskError,), names=("m.geojson",)),
        Parser("URLs", urls, url, mutate.of_text),
        Parser("command lines", command_lines, command_line, of_command),
    )
}
