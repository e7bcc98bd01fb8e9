"""What the parts of `midnight-tiny` do to its encoder: its regularisers, stain jitter, and post-training.

    python bench/studies/midnight_study.py --data ../shared/data [--seeds 3] [--steps 300] [--json]

On the training tiles of EBHI and of LC25000, with the same seeds, steps, views and network:

    DINO            class tokens alone, centred by the mean: no masks, no patches, no regulariser
    DINOv2, none    midnight-tiny without a regulariser
    DINOv2, KoLeo   with DINOv2's
    DINOv2, KDE     midnight-tiny as it is
    without jitter  the same without stain jitter
    post-trained    DINOv2, KDE gone on with by midnight-tiny-112

Encoders are scored at 64 px, where all but the last were trained, and the last and its parent at 112 px
(tile_scores.py says how). Differences are paired by seed and tile; their intervals are over the groups of
the test set, of the mean over seeds. What is finished in --work is not made again.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # bench/machine.py

from machine import add_json, describe, save, tag

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from tile_scores import (
    BASELINES,
    HERE,
    KINDS,
    SETS,
    Scored,
    add_baselines,
    balanced,
    blank_scores,
    command,
    features,
    gap,
    prepare,
    sides,
)

from pathtrain.evaluate.statistics import figures
from pathtrain.params.encoding import How
from pathtrain.runs.opening import load
from pathtrain.runs.variants import untrained

DINO, NONE, KOLEO, KDE = "DINO", "DINOv2, none", "DINOv2, KoLeo", "DINOv2, KDE"
PLAIN, POST, PARENT = "without jitter", "post-trained, 112 px", "DINOv2, KDE, 112 px"
CASES: dict[str, tuple[str, ...]] = {
    DINO: ("ibot.weight=0", "ibot.share=0", "regulariser.kind=none", "dino.centring=mean"),
    NONE: ("regulariser.kind=none",),
    KOLEO: ("regulariser.kind=koleo", "regulariser.weight=0.1"),
    KDE: (),
    PLAIN: ("stain={mode: none}",),
}
# case -> what it is compared with
AGAINST = {NONE: DINO, KOLEO: NONE, KDE: NONE, PLAIN: KDE, PARENT: KDE, POST: PARENT}
LARGE = 112  # pixels
FIRST_SEED = 1000  # of random weights: none is the start of a run


def folder(work: Path, name: str, case: str, seed: int) -> Path:
    """Where a run lies."""
    return work / "runs" / f"{name}-{''.join(c if c.isalnum() else '-' for c in case)}-{seed}"


def train(options: argparse.Namespace) -> None:
    """Every run that is not finished."""
    for seed in range(options.seeds):
        for name in options.sets:
            data = options.work / "sets" / name
            for case, settings in CASES.items():
                run, steps = folder(options.work, name, case, seed), f"steps={options.steps}"
                _train(data, "midnight-tiny", run, seed, (*settings, steps))
            parent = folder(options.work, name, KDE, seed)
            run = folder(options.work, name, POST, seed)
            more = (f"model.init=run:{parent}", f"steps={options.steps // 4}")
            _train(data, "midnight-tiny-112", run, seed, more)


def _train(data: Path, recipe: str, run: Path, seed: int, settings: tuple[str, ...]) -> None:
    more = [word for setting in (*settings, f"seed={seed}") for word in ("--set", setting)]
    command(HERE, "pathtrain", "pretrain", data, "--recipe", recipe, "--out", run, *more)


def scored(options: argparse.Namespace, name: str, kind: str) -> Scored:
    """All encoders on one test set."""
    where, found = sides(options.work, name, kind), blank_scores(options.work, name, kind)
    cases = [case for seed in range(options.seeds) for case in _cases(options.work, name, seed)]
    for how in dict.fromkeys(how for _, _, how in cases):  # tiles are read once for all of a size
        models = [(case, load(run)) for case, run, at in cases if at == how]
        known, test = features([model for _, model in models], where, how)
        for (case, _), x, x_test in zip(models, known[0], test[0], strict=True):
            found.add(case, x, x_test)
    plain = load(folder(options.work, name, KDE, 0))
    add_baselines(found, [untrained(plain, FIRST_SEED + seed) for seed in range(options.seeds)], where)
    return found


def _cases(work: Path, name: str, seed: int) -> Iterator[tuple[str, Path, How]]:
    for case in CASES:
        yield case, folder(work, name, case, seed), How()
    yield PARENT, folder(work, name, KDE, seed), How(size=LARGE)
    yield POST, folder(work, name, POST, seed), How(size=LARGE)


def summary(tiles: str, found: Scored) -> Iterator[dict[str, Any]]:
    """A row per way and encoder: its values by seed, and paired differences."""
    for way, cases in found.hits.items():
        shares: dict[Any, Any] = {case: np.mean(hits, axis=0) for case, hits in cases.items()}
        for case, hits in cases.items():
            shares |= {(case, seed): hit.astype(np.float64) for seed, hit in enumerate(hits)}
        for case in (case for case in cases if case not in BASELINES):
            others = [*BASELINES, *([AGAINST[case]] if case in AGAINST else [])]
            shares |= {(case, other): shares[case] - shares[other] for other in others}
        made = figures(partial(balanced, shares, found), int(found.group.max()) + 1, 0)
        for case, hits in cases.items():
            yield {
                "tiles": tiles,
                "way": way,
                "encoder": case,
                "seeds": [made[case, seed].value for seed in range(len(hits))],
                "minus": {other: made[case, other]._asdict() for other in cases if (case, other) in made},
            }


def markdown(rows: list[dict[str, Any]], seeds: int) -> str:
    """The rows as tables."""
    head = ("scored by", "encoder", "mean [smallest, largest seed]", "minus what it builds on")
    lines = ["# The parts of midnight-tiny, over seeds", ""]
    for tiles in dict.fromkeys(row["tiles"] for row in rows):
        lines += [f"## {tiles} tiles, balanced accuracy", ""]
        columns = (*head, *(f"minus {name}" for name in BASELINES))
        lines += [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
        for row in (row for row in rows if row["tiles"] == tiles):
            minus, case = row["minus"], row["encoder"]
            before = AGAINST.get(case)
            against = f"{gap(minus[before])} {before}" if before in minus else ""
            value = f"{np.mean(row['seeds']):.3f} [{min(row['seeds']):.3f}, {max(row['seeds']):.3f}]"
            gaps = " | ".join(gap(minus.get(name)) for name in BASELINES)
            lines.append(f"| {row['way']} | {case} | {value} | {against} | {gaps} |")
        lines.append("")
    lines += [
        f"{seeds} seeds. Differences: of the mean over seeds, paired by tile, with 95 % intervals over the "
        "groups of the test set.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("midnight-study"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="a quarter of it, of the post-training")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    add_json(parser)
    options = parser.parse_args()
    prepare(options.data, options.work, options.sets)
    train(options)
    rows = [
        row
        for name in options.sets
        for kind in KINDS
        for row in summary(f"{name}, {kind}", scored(options, name, kind))
    ]
    text = markdown(rows, options.seeds)
    print(text)
    save(options.json, "midnight-study", {"seeds": options.seeds, "rows": rows})
    if options.json == Path():
        beside = Path(__file__).parents[1] / "results" / f"midnight-study-{tag(describe())}.md"
        beside.write_text(text)


if __name__ == "__main__":
    main()
