"""Whether the tissue is found: our finders beside CLAM's, hs2p's and Otsu's, on slides whose tissue is known.

    PYTHONPATH=PEERS python bench/bench_tissue.py --data FOLDER --json

Drawn slides know their truth; real ones have outlines by hand (tissue_cases.py). Of each finder: share of
pixels right of all that either has (IoU), precision, recall; the same of tiles, where a tile is 128 um and
counts from 40 % tissue, as `pathprep shard` cuts them; recall of fat; seconds. Finders take turns on every
slide.
"""

import time
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import add_json, save
from tissue_cases import Case, Mask, drawn, real
from tissue_peers import clam, clam_otsu, hs2p, otsu

from pathprep.params.tissue import TissueMethod, TissueParams
from pathprep.slides import tissue

TILE_UM, LEAST = 128.0, 0.4
SPECK = 1e-3  # of a picture without tissue: less is none
Finder = Callable[..., Mask]


def ours(method: TissueMethod) -> Finder:
    """One of our methods with its default settings."""
    params = TissueParams(method=method)
    return lambda pixels, mpp: tissue.segment(pixels, mpp, params).mask


def scores(mask: Mask, truth: Mask) -> tuple[float, float, float]:
    """IoU, precision and recall. Of a picture without tissue: 1 if (nearly) none was found, else 0."""
    both, found, there = (mask & truth).sum(), mask.sum(), truth.sum()
    if not there:
        right = float(mask.mean() < SPECK)
        return right, right, 1.0
    return both / (mask | truth).sum(), both / max(1, found), both / there


def tiles(mask: Mask, case: Case) -> Mask:
    """Which tiles of 128 um, side by side, are tissue."""
    side = max(1, round(TILE_UM / case.mpp))
    rows, columns = max(1, mask.shape[0] // side), max(1, mask.shape[1] // side)
    height, width = mask.shape
    share = tissue.fractions(mask, width, height, columns, rows, min(side, *mask.shape), side)
    return np.asarray(share >= LEAST)


def measure(case: Case, finders: dict[str, Finder]) -> dict[str, dict[str, float]]:
    """Every finder on one case."""
    found = {}
    for name, finder in finders.items():
        start = time.process_time()
        mask = finder(case.pixels, case.mpp)
        seconds = time.process_time() - start
        seen, truth = mask & case.counted, case.truth & case.counted
        pixel, tile = scores(seen, truth), scores(tiles(seen, case), tiles(truth, case))
        figures = dict(zip(("iou", "precision", "recall"), map(float, pixel), strict=True))
        figures |= dict(zip(("tile_iou", "tile_precision", "tile_recall"), map(float, tile), strict=True))
        if case.fat is not None and case.fat.any():
            figures["fat"] = float((mask & case.fat).sum() / case.fat.sum())
        found[name] = {key: round(value, 4) for key, value in figures.items()} | {
            "seconds": round(seconds, 4)
        }
    return found


def summary(every: dict[str, dict[str, dict[str, float]]], kinds: dict[str, str]) -> dict[str, Any]:
    """Means over the drawn and over the real cases."""
    sums: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for case, finders in every.items():
        for name, figures in finders.items():
            for key, value in figures.items():
                sums[kinds[case]][name][key].append(value)
    return {
        kind: {name: {k: round(float(np.mean(v)), 4) for k, v in by.items()} for name, by in finders.items()}
        for kind, finders in sums.items()
    }


def table(results: dict[str, Any]) -> str:
    """Markdown: means by kind, then tile IoU of every case."""
    lines = []
    for kind, finders in results["means"].items():
        lines += [
            f"### {kind}, {results['numbers'][kind]} slides",
            "",
            "| finder | pixel IoU | precision | recall | tile IoU | precision | recall | fat | CPU s |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for name, f in finders.items():
            cells = [f"{f[k]:.3f}" for k in ("iou", "precision", "recall")]
            cells += [f"{f[f'tile_{k}']:.3f}" for k in ("iou", "precision", "recall")]
            cells += [f"{f['fat']:.2f}" if "fat" in f else "", f"{f['seconds']:.2f}"]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    names = list(next(iter(results["cases"].values())))
    lines += [
        "### Tile IoU of each",
        "",
        f"| slide | {' | '.join(names)} |",
        "| --- " * (len(names) + 1) + "|",
    ]
    for case, finders in results["cases"].items():
        cells = [f"{finders[name]['tile_iou']:.2f}" for name in names]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run it."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the real slides that tissue_masks/ names")
    parser.add_argument("--seeds", type=int, default=2, help="drawings of each kind")
    add_json(parser)
    arguments = parser.parse_args()
    finders: dict[str, Finder] = {
        "ours": ours("stained"), "ours, threshold": ours("threshold"), "ours, Otsu": ours("otsu"),
        "CLAM": clam, "CLAM, Otsu": clam_otsu, "Otsu": otsu, **hs2p(),
    }  # fmt: skip
    cases = [case for seed in range(arguments.seeds) for case in drawn(seed + 1)]
    cases = [
        Case(**{**vars(case), "name": f"{case.name} {1 + number // 13}"}) for number, case in enumerate(cases)
    ]
    if arguments.data is not None:
        cases += real(arguments.data)
    every, kinds = {}, {}
    for case in cases:
        every[case.name], kinds[case.name] = measure(case, finders), case.kind
        print(case.name, {name: found["tile_iou"] for name, found in every[case.name].items()}, flush=True)
    numbers = {kind: list(kinds.values()).count(kind) for kind in dict.fromkeys(kinds.values())}
    results = {"means": summary(every, kinds), "numbers": numbers, "cases": every}
    save(arguments.json, "bench_tissue", results)
    print(table(results))


if __name__ == "__main__":
    main()
