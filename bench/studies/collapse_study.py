"""Feature collapse with and without stain normalisation, on real tissue at a size that fits two CPU cores.

    python bench/studies/collapse_study.py --data ../shared/data [--work FOLDER] [--steps 300] [--json [FILE]]

The study of EXAONEPath 1.0's figure 2 in small. Of two sets of slides (MoNuSeg: ten fields of ten patients
and several organs; a cohort composed of LC25000 tiles, each slide with its own colour cast) the same tiles
are stored plain and normalised. A small ViT is trained by DINO on each, from the same first weights, in the
same order, with the same views (the `smoke` recipe). Then `pathtrain evaluate collapse` compares (a) plain
model and tiles, (b) plain model, normalised tiles, (c) normalised model and tiles, and `evaluate linear`
scores the four models on LC25000 tiles beside random weights and colour. A table (.md) goes with the results.

Slides differ in organ and diagnosis too, so slides that mix perfectly are not expected, nor wanted. One
training per model: the intervals hold what other slides would change, not what other first weights would.

Shards, runs and figures stay in --work, and what is finished there is not made again.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # bench/machine.py

from machine import add_json, describe, save, tag

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


# folder under --data, options of `pathprep shard`
SETS: dict[str, tuple[str, list[str]]] = {
    "monuseg": ("slides/monuseg", ["--tile", "64", "--mpp", "0.25"]),
    "cohort": ("cohort", []),
}
STAINS = {"plain": "none", "normalised": "bake"}
SHOWN = {"own_share": "kNN own share", "ratio": "ratio to chance", "silhouette": "silhouette"}


def prepare(data: Path, work: Path, steps: int, seed: int, seconds: dict[str, float]) -> None:
    """Shard and train what is not there yet, by the commands: cuCIM and torch do not share a process."""
    for name, (folder, options) in SETS.items():
        for kind, stain in STAINS.items():
            root, run = work / name / kind, work / name / f"{kind}-run"
            with clock(seconds, f"shard {name} {kind}"):
                _command("pathprep", "shard", data / folder, "--out", root, "--stain", stain, *options)
            settings = {"steps": steps, "seed": seed, "checkpoint.every": steps}
            sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
            with clock(seconds, f"train {name} {kind}"):
                _command("pathtrain", "pretrain", root, "--recipe", "smoke", "--out", run, *sets)


def _command(package: str, *arguments: object) -> None:
    code = f"import sys; from {package}.cli import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)


@contextmanager
def clock(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long a stage took."""
    start = time.perf_counter()
    print(f"--- {stage}", flush=True)
    yield
    seconds[stage] = round(time.perf_counter() - start, 1)


def collapse(work: Path, name: str, seed: int) -> dict[str, Any]:
    """The three panels of a set, and their figure in ``work``."""
    from pathtrain.evaluate.papers import collapse_panels as panels
    from pathtrain.evaluate.tile_level import tsne
    from pathtrain.params.evaluation import CollapseParams
    from pathtrain.runs.opening import load

    sides = [(load(work / name / f"{kind}-run"), work / name / kind) for kind in STAINS]
    result, samples = panels.measured(sides[0], sides[1], CollapseParams(seed=seed))
    places = [tsne.place(sample, 100, seed) for sample in samples]
    (work / f"{name}.png").write_bytes(tsne.panels(samples, places, result["panels"]))
    for panel in result["panels"]:
        panel["dataset"] = Path(panel["dataset"]).name
    return result


def linear(data: Path, work: Path, name: str, kind: str, seed: int) -> dict[str, Any]:
    """Linear evaluation of one model on tiles of five classes, train and test sharing no group."""
    from pathtrain.evaluate.tile_level.linear import linear as evaluate
    from pathtrain.runs.opening import load

    model = replace(load(work / name / f"{kind}-run"), name=f"{name} {kind}")
    result = evaluate(model, data / "tiles" / "train", data / "tiles" / "test", seed=seed)
    stain = {Path(path).name: done for path, done in result["stain"].items()}
    return {**result, "train": "tiles/train", "test": "tiles/test", "stain": stain}


def markdown(results: dict[str, Any]) -> str:
    """The results as tables, with what they say of the paper's order."""
    lines = ["# Feature collapse with and without stain normalisation", ""]
    for name, found in results["collapse"].items():
        lines += [
            f"## {name}: {found['slides']} slides, {found['tiles']} tiles, k={found['k']}",
            "",
            f"| | {' | '.join(SHOWN.values())} | silhouette by chance |",
            "| --- |" + " --- |" * (len(SHOWN) + 1),
        ]
        for panel in found["panels"]:
            cells = [_cell(panel, key) for key in SHOWN]
            chance = f"{panel['silhouette_chance']:.3f}"
            lines.append(f"| ({panel['panel']}) {panel['title']} | {' | '.join(cells)} | {chance} |")
        for row in found["baselines"]:
            cells = [_cell(row, key) for key in SHOWN]
            lines.append(f"| {row['title']} | {' | '.join(cells)} | {row['silhouette_chance']:.3f} |")
        for step, change in found["changes"].items():
            lines.append(f"| {step} | {' | '.join(_cell(change, key) for key in SHOWN)} | |")
        lines += ["", found["verdict"], ""]
    settings = results["settings"]
    lines += [
        "## Linear evaluation on LC25000 tiles (five classes), top-1",
        "",
        "| tiles | model | top-1 | over seeds | over groups | balanced |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for stain in STAINS:
        shown = set()
        for found in (one for one in results["linear"] if one["model"]["name"].endswith(f" {stain}")):
            for row in found["results"]:
                name = f"trained on {found['model']['name']}" if row["name"] == "model" else row["name"]
                if name in shown:  # random weights and colour are the same beside each model
                    continue
                shown.add(name)
                over = "[{:.3f}, {:.3f}]".format(*row["accuracy_seeds_interval"])
                groups = "[{:.3f}, {:.3f}]".format(*row["accuracy_interval"])
                figures = [f"{row['accuracy']:.3f}", over, groups, f"{row['balanced']:.3f}"]
                lines.append(f"| {stain} | {name} | {' | '.join(figures)} |")
    lines += [
        "",
        f"Recipe smoke, {settings['steps']} steps, seed {settings['seed']}, one training per model. "
        "95 % intervals: bootstrap over slides (collapse) and groups, Student's t over seeds of the layer.",
        "",
    ]
    return "\n".join(lines)


def _cell(row: dict[str, Any], key: str) -> str:
    low, high = row[f"{key}_interval"]
    return f"{row[key]:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="holds slides/monuseg, cohort and tiles")
    parser.add_argument("--work", type=Path, help="shards, runs, figures; default: a temporary folder")
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--seed", type=int, default=0)
    add_json(parser)
    given = parser.parse_args()
    missing = [place for place, _ in SETS.values() if not (given.data / place).is_dir()]
    if missing or not (given.data / "tiles" / "train").is_dir():
        parser.error(f"{given.data}: has no {', '.join(missing) or 'tiles/train'}")
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        seconds: dict[str, float] = {}
        prepare(given.data, work, given.steps, given.seed, seconds)
        results: dict[str, Any] = {
            "settings": {"recipe": "smoke", "steps": given.steps, "seed": given.seed, "sets": SETS},
            "collapse": {},
            "linear": [],
        }
        for name in SETS:
            with clock(seconds, f"collapse {name}"):
                results["collapse"][name] = collapse(work, name, given.seed)
            for kind in STAINS:
                with clock(seconds, f"linear {name} {kind}"):
                    results["linear"].append(linear(given.data, work, name, kind, given.seed))
    text = markdown(results)
    print(text)
    print(f"Seconds, less what was there before: {seconds}")
    save(given.json, "collapse-study", results)
    if given.json == Path():
        beside = Path(__file__).parents[1] / "results" / f"collapse-study-{tag(describe())}.md"
        beside.write_text(text)


if __name__ == "__main__":
    main()
