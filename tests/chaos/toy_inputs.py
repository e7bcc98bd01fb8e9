"""Inputs that no command makes; run in a warm process as ``make NAME PATH...``."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path


def toy(out: Path) -> None:
    """A dataset of small tiles of three slides."""
    from helpers.toys import BLUE, noise, write_dataset

    write_dataset(out, {"a": noise(6), "b": noise(5, colour=BLUE, seed=1), "c": noise(4, seed=2)})


def toy_labels(out: Path) -> None:
    """Labels of its slides."""
    out.write_text("slide_id,label\na,x\nb,y\nc,x\n")


def first(out: Path) -> None:
    """A dataset to mix."""
    from helpers.mixing import write

    write(out, {"a": 6, "b": 5, "c": 4})


def second(out: Path) -> None:
    """Another one."""
    from helpers.mixing import write

    write(out, {"d": 5, "e": 3})


def tile_set(out: Path) -> None:
    """Images and a CSV of labels and groups."""
    from helpers.tilesets import folders, tile, write_csv

    names = [
        (f"{group}-{number}.png", "xy"[group == "g2"], group)
        for group in ("g1", "g2", "g3")
        for number in range(4)
    ]
    folders(out, {name: tile(number) for number, (name, _, _) in enumerate(names)})
    write_csv(out / "labels.csv", ("file", "label", "group"), names)


def picture(out: Path) -> None:
    """A picture of stained tissue."""
    from helpers.tilesets import tile
    from PIL import Image

    Image.fromarray(tile(1, 128)).save(out)


def recipe(out: Path) -> None:
    """Of a run that takes a second."""
    from helpers.training import SETTINGS

    from pathtrain.recipes.load import dump, load

    out.write_text(dump(load("smoke", [*SETTINGS, "steps=8", "checkpoint.every=2", "optim.warmup_steps=2"])))


def staged(out: Path) -> None:
    """A dataset of slides of two colours."""
    from helpers.hierarchies import write_slides

    write_slides(out)


def staged_labels(out: Path) -> None:
    """Their labels."""
    from helpers.hierarchies import write_labels

    write_labels(out)


def staged_recipe(out: Path) -> None:
    """Of a run of three stages that takes seconds."""
    from helpers.hierarchies import FIRST, SECOND, SMALL

    from pathtrain.recipes.load import dump, load

    settings = [*SMALL, f"hierarchy.phases=[{FIRST}, {SECOND}]", "checkpoint.every=2"]
    out.write_text(dump(load("exaonepath2-tiny", settings)))


def run(out: Path, dataset: Path, seed: int = 0) -> None:
    """A finished run, without any training."""
    from helpers.toys import write_run

    write_run(out, dataset, seed)


def other_run(out: Path, dataset: Path) -> None:
    """Another one."""
    run(out, dataset, 1)


def settled(out: Path, dataset: Path) -> None:
    """A folder with a finished run in it."""
    run(out / "run", dataset)


def key(out: Path) -> None:
    """A key of pseudonyms that knows two slides, and a table of labels of theirs."""
    from pathprep.pseudonyms import key as keys
    from pathprep.pseudonyms import table

    out.mkdir()
    made = keys.take(out / "key")
    table.add(made, [table.Row(made.name(name), name) for name in ("synth-000", "synth-001")])
    (out / "labels.csv").write_text("slide_id,label\nsynth-000,x\nsynth-001,y\n")


def task_tiles(out: Path) -> None:
    """Two of the tile tasks."""
    from helpers.toys import labelled_folder

    for task in ("pcam", "til"):
        (out / task).mkdir(parents=True)
        labelled_folder(out / task / "train", {f"g{number}": "pb"[number % 2] for number in range(10)})
        labelled_folder(out / task / "test", {"h1": "p", "h2": "b"})


def masked(out: Path) -> None:
    """Images with masks of classes and objects."""
    from helpers.segmented import table_folder

    table_folder(out, "aabc", ["train", "train", "test", "test"])


def sections(out: Path) -> None:
    """Two plain sections of spatial transcriptomics."""
    from helpers.expression import st_folder

    st_folder(out, {"A1": "A", "B1": "B"})


def damaged(out: Path, dataset: Path) -> None:
    """A dataset of which two slides are damaged: a tar cut short, a table gone."""
    shutil.copytree(dataset, out)
    names = sorted(path.stem for path in (out / "slides").glob("*.json"))
    with (out / "shards" / f"{names[0]}.tar").open("r+b") as tar:
        tar.truncate(1000)
    (out / "index" / f"{names[1]}.parquet").unlink()


def careless(out: Path) -> None:
    """A command without any discipline: it writes in place, in two parts, and sweeps what is not its own."""
    for path in out.glob(".tmp-*"):
        path.unlink()
    with (out / "table.csv").open("ab") as file:
        file.write(b"a,b\n")
        file.flush()
        file.write(b"1,2\n")


MAKERS: dict[str, Callable[..., None]] = {
    each.__name__: each
    for each in (
        toy, toy_labels, first, second, tile_set, picture, recipe, staged, staged_labels, staged_recipe, run,
        other_run, settled, key, task_tiles, masked, sections, damaged, careless,
    )
}  # fmt: skip


def main() -> None:
    """Make one."""
    name, *places = sys.argv[1:]
    MAKERS[name](*map(Path, places))
