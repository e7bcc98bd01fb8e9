"""Whether continuing loses what an encoder knew: naive and careful starts with new heads, over seeds.

    python bench/studies/continue_study.py --data ../shared/data --work FOLDER [--seeds 3] [--json]

An encoder (the smoke recipe's, 64 px) is trained with the labels of the training tiles of LC25000 (5 classes;
or of EBHI, 6 classes), so that it knows something that a self-supervised objective with new heads may spoil.
It is trained on from there (``model.init``) on the same tiles, without labels, over seeds:

    naive       the recipe's full rate from the first step, for all layers
    warmed up   the same with a warm-up of 100 steps
    careful     the heads alone for 100 steps; then all, at a rate that climbs until step 300, with layer-wise
                decay .7 and the patch embedding at a fifth of that
    slow        the same, with a rate that climbs until step 1000

The teacher's encoder is scored at step 0 and every 50 steps by DINO's kNN vote (k 20) on the test tiles, of
groups (LC25000: originals, EBHI: patients) that are not trained on; pairs of groups of LC25000 that hold
near-duplicates are left out. Balanced accuracy; change is the score after a step less that before the first,
paired by seed and tile, its interval (95 %) over the groups of the test set, of the mean over seeds. What is
finished in --work is not made again.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # bench/machine.py
sys.path.append(str(Path(__file__).parent))

from machine import add_json, describe, save, tag

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import numpy.typing as npt
import tile_scores
import torch
from tile_scores import HERE, SETS, K, Scored, balanced, blank_scores, features, sides
from torch.nn import functional

from pathtrain.data.whole_tiles import Tiles, open_tiles
from pathtrain.evaluate.statistics import figures
from pathtrain.evaluate.tile_level.knn import vote
from pathtrain.models.backbone import build
from pathtrain.models.folder import CONFIG_FILE
from pathtrain.params.encoding import How
from pathtrain.recipes.load import load as load_recipe
from pathtrain.runs import milestones
from pathtrain.runs.model import LoadedModel
from pathtrain.runs.opening import load

STEPS, EVERY = 200, 50
LEARNT = 600  # steps with labels
COMMON = (
    f"steps={STEPS}", "batch=16", "optim.warmup_steps=0", "optim.lr=0.0005", "optim.min_lr=0.0005",
    "compile=false", "views.locals.count=2", "dino.momentum={start: 0.98, end: 0.98}", "log_every=25",
    f"checkpoint={{every: {STEPS}, keep: 1, milestones: {EVERY}}}",
)  # fmt: skip
STARTS = {
    "naive": (),
    "warmed up": ("optim.warmup_steps=100",),
    "careful": (
        "optim.freeze_backbone_steps=100", "optim.warmup_steps=300", "optim.layer_decay=0.7",
        "optim.patch_embed_scale=0.2",
    ),
    "slow": (
        "optim.freeze_backbone_steps=100", "optim.warmup_steps=1000", "optim.layer_decay=0.7",
        "optim.patch_embed_scale=0.2",
    ),
}  # fmt: skip


def parent(work: Path, name: str) -> Path:
    """An encoder that was trained with labels, as a folder for ``model.init``."""
    folder = work / "parents" / f"{name}-0"
    if (folder / CONFIG_FILE).is_file():
        return folder
    torch.manual_seed(0)
    recipe = load_recipe("smoke")
    tiles = open_tiles(work / "tiles" / name / "train" / "plain")
    labels = list(tiles.labels or ())
    codes = torch.tensor([sorted(set(labels)).index(label) for label in labels])
    backbone = build(recipe.model)
    head = torch.nn.Linear(int(backbone.num_features), int(codes.max()) + 1)  # type: ignore[arg-type]
    pixels = _pixels(tiles, 64)
    mean, std = (torch.tensor(value)[:, None, None] for value in (recipe.model.mean, recipe.model.std))
    share = 1 / codes.bincount().float()
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], 5e-4, weight_decay=0.05)
    for step in range(LEARNT):
        for group in optimizer.param_groups:
            group["lr"] = 5e-4 * min(1, step / 50) * 0.5 * (1 + np.cos(np.pi * step / LEARNT))
        drawn = torch.randint(len(codes), (64,))
        images = pixels[drawn].float() / 255
        images = torch.rot90(images.flip(-1) if step % 2 else images, step % 4, (2, 3))
        loss = functional.cross_entropy(head(backbone((images - mean) / std)), codes[drawn], share)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    _write(folder, backbone)
    return folder


def _pixels(tiles: Tiles, side: int) -> torch.Tensor:
    """(N, 3, side, side) uint8."""
    from pathtrain.data.tile_batches import batches

    found = [
        torch.as_tensor(np.asarray(part))
        for part in batches(tiles, np.arange(len(tiles)), size=side, batch=256, threads=2, short=None)
    ]
    return torch.cat(found).permute(0, 3, 1, 2).contiguous()


def _write(folder: Path, backbone: torch.nn.Module) -> None:
    """As timm lays a model out."""
    from safetensors.torch import save_file

    recipe = load_recipe("smoke")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(backbone.state_dict(), folder / "model.safetensors")
    shown = {"mean": recipe.model.mean, "std": recipe.model.std, "input_size": [3, 64, 64], "num_classes": 0}
    config = {"architecture": recipe.model.name, "model_args": recipe.model.kwargs, "pretrained_cfg": shown}
    (folder / CONFIG_FILE).write_text(json.dumps(config))


def train(options: argparse.Namespace, name: str, start: str, seed: int) -> Path:
    """One continued run."""
    run: Path = options.work / "runs" / f"{name}-{options.method}-{start.replace(' ', '-')}-{seed}"
    init = parent(options.work, name)
    settings = (*COMMON, f"model.init={init}", f"seed={seed}", *options.set, *STARTS[start])
    words = [word for setting in settings for word in ("--set", setting)]
    base = ("--recipe", options.recipe, "--out", run, *words)
    tile_scores.command(HERE, "pathtrain", "pretrain", options.work / "sets" / name, *base)
    return run


def models(options: argparse.Namespace, name: str) -> Iterator[tuple[str, int, int, LoadedModel]]:
    """Start, seed, step and encoder."""
    first = load(parent(options.work, name))
    for seed in range(options.seeds):
        for start in STARTS:
            run = train(options, name, start, seed)
            yield start, seed, 0, first
            for step, path in milestones.entries(run):
                yield start, seed, step, load(path)


def scored(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """All encoders on one test set."""
    where, found = sides(options.work, name, "plain"), blank_scores(options.work, name, "plain")
    labels = list(open_tiles(where[0]).labels or ())
    known = np.array([sorted(set(labels)).index(label) for label in labels])
    cases = list(models(options, name))
    each = {model.fingerprint: model for *_, model in cases}
    # together: tiles are decoded once
    (x, _), (x_test, _) = features(list(each.values()), where, How(size=64))
    right = {
        fingerprint: (vote(x[n], known, x_test[n], K, int(known.max()) + 1) == found.classes).astype(
            np.float64
        )
        for n, fingerprint in enumerate(each)
    }
    shares = {(start, step, seed): right[model.fingerprint] for start, seed, step, model in cases}
    return _figures(shares, found, options.seeds)


def _figures(shares: Mapping[Any, npt.NDArray[np.float64]], found: Scored, seeds: int) -> dict[str, Any]:
    wanted: dict[Any, npt.NDArray[np.float64]] = dict(shares)
    pairs = sorted(
        {(start, step) for start, step, _ in shares}, key=lambda pair: (list(STARTS).index(pair[0]), pair[1])
    )
    for start, step in pairs:
        wanted[start, step] = np.mean([shares[start, step, s] for s in range(seeds)], axis=0)
        wanted[start, step, "change"] = wanted[start, step] - np.mean(
            [shares[start, 0, s] for s in range(seeds)], axis=0
        )
    values = figures(partial(balanced, wanted, found), int(found.group.max()) + 1, 0)
    return {
        "rows": [
            {
                "start": start,
                "step": step,
                "seeds": [values[start, step, s].value for s in range(seeds)],
                "mean": values[start, step].value,
                "change": values[start, step, "change"]._asdict(),
                "changes": [values[start, step, s].value - values[start, 0, s].value for s in range(seeds)],
            }
            for start, step in pairs
        ],
        "majority": 1 / len(set(found.classes.tolist())),
    }


def table(results: Mapping[str, dict[str, Any]]) -> str:
    """Markdown: a row per set and start, a column per step."""
    lines = []
    for name, result in results.items():
        rows = result["rows"]
        steps = sorted({row["step"] for row in rows})
        before = next(row for row in rows if row["step"] == 0)
        lines += [
            f"{name}: {before['mean']:.3f} before the first step",
            "",
            "| start | " + " | ".join(f"change after {step}" for step in steps if step) + " |",
            "| --- |" + " --- |" * (len(steps) - 1),
        ]
        for start in STARTS:
            cells = []
            for step in steps[1:]:
                row = next(row for row in rows if (row["start"], row["step"]) == (start, step))
                ends = row["change"]["interval"]
                shown = "" if ends is None else f" [{ends[0]:+.3f}, {ends[1]:+.3f}]"
                cells.append(f"{row['change']['value']:+.3f}{shown}")
            lines.append(f"| {start} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Train, score and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", default=["lc25000"], choices=SETS)
    parser.add_argument("--method", default="dino", help="what the runs are called")
    parser.add_argument("--recipe", default="smoke")
    parser.add_argument("--set", action="append", default=[], help="a setting of all runs; may be repeated")
    add_json(parser)
    options = parser.parse_args()
    options.data, options.work = options.data.resolve(), options.work.resolve()
    tile_scores.prepare(options.data, options.work, options.sets, ("plain",))
    results = {name: scored(options, name) for name in options.sets}
    text = table(results)
    print(text)
    study = f"continue-study-{options.method}"
    save(options.json, study, {"seeds": options.seeds, "k": K, "sets": results})
    if options.json == Path():
        (Path(__file__).parents[1] / "results" / f"{study}-{tag(describe())}.md").write_text(text)


if __name__ == "__main__":
    main()
