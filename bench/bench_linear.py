"""Linear evaluation of cached features: our layers, scikit-learn's logistic regression, and eva's loop.

    python bench/bench_linear.py [--rounds 5] [--steps 250] [--peers FOLDER] [--columns ...] [--json [FILE]]

Features are drawn, as wide as a ViT-S (384), at the sizes of BACH, BRACS and a fifth of NCT-CRC-HE-100K. Per
core: every case has one thread, and CPU seconds are counted. In turn, medians of:

    ours          5 layers at once as --protocol eva trains them, by 5
    loop          eva's loop in plain torch: a DataLoader over the features in memory, nn.Linear, AdamW, a
                  validation an epoch
    eva           the package itself (HeadModule and its Trainer on Lightning, a file per tile, no workers)
                  where --peers has it (pip install --target FOLDER --no-deps kaiko-eva lightning ...); a few
                  steps, of sets that are not large
    scikit-learn  one fit to its end (C 1, at most 1,000 iterations of L-BFGS)

Loops are timed over --steps steps; "a layer" is 12,500 of them, or as many as ours takes before it is left.
--columns trains tile columns of the Midnight paper at their full sizes, once: "BACH;PCam-10".
"""

import argparse
import logging
import math
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from machine import add_json, saved
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from pathtrain.evaluate.tile_level.layers import train_layer
from pathtrain.params.layers import EVA, LayerOptions

WIDTH = 384
CPU = torch.device("cpu")
# Tiles to learn from and to validate, and classes
SETS = {"BACH": (268, 132, 4), "BRACS": (3657, 312, 7), "CRC, a fifth": (20_000, 1436, 9)}
COLUMNS = {
    "PCam-10": (262_144, 32_768, 2),
    "BACH": (268, 132, 4),
    "BRACS": (3657, 312, 7),
    "BreakHis": (1132, 339, 4),
    "CRC": (100_000, 7180, 9),
    "Gleason": (15_303, 2482, 4),
    "MHIST": (2175, 977, 2),
    "PCam": (262_144, 32_768, 2),
}
Side = tuple[Any, Any]


def features(count: int, classes: int, seed: int) -> Side:
    """Classes that overlap: a linear layer gets some 80 % of them."""
    means = np.random.default_rng(0).normal(size=(classes, WIDTH)).astype(np.float32)
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    return (0.12 * means[labels] + rng.standard_normal((count, WIDTH), np.float32)), labels


def loop(train: Side, val: Side, classes: int, steps: int) -> None:
    """eva's loop, plain."""
    torch.manual_seed(0)
    data, looked = (TensorDataset(*map(torch.from_numpy, side)) for side in (train, val))
    layer, loss_of = nn.Linear(WIDTH, classes), nn.CrossEntropyLoss()
    optimizer, metric = torch.optim.AdamW(layer.parameters(), lr=EVA.lr), MulticlassAccuracy(classes)
    done = 0
    while True:
        for points, goals in DataLoader(data, EVA.batch, shuffle=True):
            loss = loss_of(layer(points), goals)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done == steps:
                return
        with torch.no_grad():
            for points, goals in DataLoader(looked, EVA.batch):
                metric.update(layer(points), goals)
        metric.compute()
        metric.reset()


def eva_session(train: Side, val: Side, classes: int, steps: int, folder: Path) -> Callable[[], float]:
    """The package's own session, which gives its balanced accuracy; embeddings are written once before."""
    import pandas as pd
    from eva.core.data import dataloaders, datamodules, datasets
    from eva.core.metrics.defaults import MulticlassClassificationMetrics
    from eva.core.metrics.structs import MetricsSchema
    from eva.core.models.modules import HeadModule
    from eva.core.trainers import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    rows = []
    for split, (points, goals) in (("train", train), ("val", val)):
        for number, (point, goal) in enumerate(zip(points, goals, strict=True)):
            name = f"{split}-{number}.pt"
            torch.save(torch.from_numpy(point.copy()), folder / name)
            rows.append({"embeddings": name, "target": int(goal), "split": split})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    def run() -> float:
        torch.manual_seed(0)
        sides = {
            split: datasets.EmbeddingsClassificationDataset(str(folder), "manifest.csv", split)
            for split in ("train", "val")
        }
        plain = {"num_workers": 0, "persistent_workers": False, "prefetch_factor": None, "pin_memory": False}
        loaders = datamodules.schemas.DataloadersSchema(
            train=dataloaders.DataLoader(batch_size=EVA.batch, shuffle=True, **plain),
            val=dataloaders.DataLoader(batch_size=EVA.batch, **plain),
        )
        data = datamodules.DataModule(datamodules.schemas.DatasetsSchema(**sides), loaders)
        model = HeadModule(
            nn.Linear(WIDTH, classes),
            nn.CrossEntropyLoss(),
            optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=EVA.lr),
            lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, T_max=12_500
            ),
            metrics=MetricsSchema(common=[MulticlassClassificationMetrics(num_classes=classes)]),
        )
        trainer = Trainer(
            default_root_dir=str(folder / "logs"),
            max_steps=steps,
            accelerator="cpu",
            callbacks=[ModelCheckpoint(monitor="val/MulticlassAccuracy", mode="max", save_top_k=1)],
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
        )
        trainer.fit(model, data)
        return float(trainer.callback_metrics["val/MulticlassAccuracy"])

    return run


def cpu(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(name: str, steps: int, rounds: int, peers: bool, folder: Path) -> dict[str, Any]:
    """Medians of CPU seconds: of a step of a layer in ms, and of a layer whole."""
    count, looked, classes = SETS[name]
    train, val = features(count, classes, 1), features(looked, classes, 2)
    short = replace(EVA, iterations=steps, patience=10**9)
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: train_layer(*train, classes, short, 0, CPU, val),
        "loop": lambda: loop(train, val, classes, steps),
    }
    if peers:
        calls["eva"] = eva_session(train, val, classes, min(steps, 50), folder)
    seconds: dict[str, list[float]] = {each: [] for each in [*calls, "scikit-learn", "ours, whole"]}
    fits = LogisticRegression(max_iter=1000)
    for call in calls.values():
        call()
    layers = None
    for _ in range(rounds):
        for case, call in calls.items():
            seconds[case].append(cpu(call))
        seconds["scikit-learn"].append(cpu(lambda: fits.fit(*train)))
        start = time.process_time()
        layers = train_layer(*train, classes, EVA, 0, CPU, val)
        seconds["ours, whole"].append(time.process_time() - start)
    assert layers is not None
    batches = math.ceil(count / EVA.batch)
    taken = statistics.mean(min(looks * batches, EVA.iterations) for looks in layers.validations)
    middle = {case: statistics.median(values) for case, values in seconds.items()}
    per_step = {
        "ours": middle["ours"] / steps / EVA.seeds,
        "loop": middle["loop"] / steps,
        **({"eva": middle["eva"] / min(steps, 50)} if peers else {}),
    }
    whole = {case: each * taken for case, each in per_step.items() if case != "ours"}
    whole |= {"ours": middle["ours, whole"] / EVA.seeds, "scikit-learn": middle["scikit-learn"]}
    right = {
        "ours": float((layers.classes(val[0]) == val[1]).mean()),
        "scikit-learn": float(fits.score(*val)),
    }
    return {
        "step_ms": {case: 1000 * each for case, each in per_step.items()},
        "layer_s": whole,
        "steps_taken": taken,
        "accuracy": right,
        "iterations_of_sklearn": int(fits.n_iter_[0]),
        "seconds": seconds,
    }


def column(name: str) -> float:
    """CPU seconds of a tile column of one kind of features at its full size."""
    count, looked, classes = COLUMNS[name]
    train, val = features(count, classes, 1), features(looked, classes, 2)
    settings = LayerOptions(per_class=10, seeds=50).over("eva") if name == "PCam-10" else EVA
    return cpu(lambda: train_layer(*train, classes, settings, 0, CPU, val))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--peers", type=Path, help="folder of pip install --target with kaiko-eva")
    parser.add_argument("--sets", default=";".join(SETS), help="some of them, between semicolons; or none")
    parser.add_argument("--columns", default="", help="as well, some of the tile columns at full size")
    add_json(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if arguments.peers:
        sys.path.append(str(arguments.peers.resolve()))
    result: dict[str, Any] = {"rounds": arguments.rounds, "steps": arguments.steps, "width": WIDTH}
    with saved(arguments.json, "bench_linear", result):
        _run(arguments, result)


def _run(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    shown = Table(title="CPU seconds of a layer, one thread")
    headings = ("set", "steps", "ours", "loop", "eva", "scikit-learn", "loop/ours", "eva/ours", "skl/ours")
    for heading in headings:
        shown.add_column(heading, justify="left" if heading == "set" else "right")
    for name in filter(None, arguments.sets.split(";")):
        with tempfile.TemporaryDirectory() as folder:
            with_eva = arguments.peers is not None and SETS[name][0] < 10_000
            found = measure(name, arguments.steps, arguments.rounds, with_eva, Path(folder))
        result.setdefault("sets", {})[name] = found
        whole, step = found["layer_s"], found["step_ms"]
        cases = ("ours", "loop", "eva", "scikit-learn")
        cells = [f"{whole[case]:.2f}" if case in whole else "-" for case in cases]
        ratios = [f"{step[case] / step['ours']:.1f}" if case in step else "-" for case in ("loop", "eva")]
        ratios.append(f"{whole['scikit-learn'] / whole['ours']:.1f}")
        shown.add_row(name, f"{found['steps_taken']:,.0f}", *cells, *ratios)
    if shown.row_count:
        Console(width=110).print(shown)
    for name in filter(None, arguments.columns.split(";")):
        result.setdefault("column_s", {})[name] = seconds = column(name)
        Console().print(f"{name}: {seconds:.1f} CPU seconds")


if __name__ == "__main__":
    main()
