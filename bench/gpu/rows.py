"""The rows of the table of cards: which results they read, and what these are held against."""

import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SANITIZERS = ("memcheck", "racecheck", "synccheck", "initcheck")  # of parts.py
Json = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """A result in words, and whether it meets the target; None: there is none."""

    text: str
    met: bool | None = None


Read = Callable[[Json], Found | None]


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: was measured.
        part: of the run whose results it reads, a name of parts.py; None: it reads how the parts ended.
        read: these -> what stands there; None: not in them.
        target: in words.
        main: whether it stands in the README too.
    """

    what: str
    part: str | None
    read: Read
    target: str = ""
    main: bool = False


def kernel(case: str, size: int, least: float | None = None, copies: float | None = None) -> Read:
    """A case of bench_macenko on the card."""

    def read(results: Json) -> Found | None:
        row = _on_card(results, size=size, case=case)
        if row is None:
            return None
        met = None if least is None else row["tiles_s"] >= least
        if copies is not None:
            met = row["copies"] is not None and row["copies"] <= copies
        return Found(_paced(row), met)

    return read


def cut(side: int, stored: int) -> Read:
    """A case of bench_tiling on the card."""

    def read(results: Json) -> Found | None:
        row = _on_card(results, side=side, stored=stored, case="cut")
        return None if row is None else Found(_paced(row))

    return read


def _on_card(results: Json, **wanted: object) -> Json | None:
    for row in results["rows"]:
        if row["device"] != "CPU" and "error" not in row and wanted.items() <= row.items():
            found: Json = row
            return found
    return None


def _paced(row: Json) -> str:
    copies = "" if row["copies"] is None else f", {row['copies']:.2f} copies"
    return f"{row['tiles_s']:,.0f} tiles/s{copies}"


def loader(dataset: str, stain: str, least: float | None = None) -> Read:
    """The faster of ours in bench_loader."""

    def read(results: Json) -> Found | None:
        for each in results["results"]:
            if (each["dataset"], each["stain"]) == (dataset, stain):
                rate = max(rate for name, rate in each["medians"].items() if name.startswith("pathtrain"))
                return Found(f"{rate:,.0f} tiles/s", None if least is None else rate >= least)
        return None

    return read


def training(loaded: bool, mfu: float | None = None) -> Read:
    """The fastest of ours in bench_train, from memory or with the real loader."""

    def read(results: Json) -> Found | None:
        ours = {
            n: r for n, r in results["medians"].items() if n.startswith("ours") and ("loader" in n) == loaded
        }
        if not ours:
            return None
        name = max(ours, key=lambda each: ours[each])
        used = (results.get("mfu") or {}).get(name)
        said = f"{ours[name]:,.0f} tiles/s" + ("" if used is None else f", {used:.1%} MFU")
        return Found(said, None if mfu is None or used is None else used >= mfu)

    return read


def dinov2(least: float) -> Read:
    """The fastest of ours in bench_dinov2."""

    def read(results: Json) -> Found | None:
        if not results["medians"]:
            return None
        name = max(results["medians"], key=lambda each: results["medians"][each])
        rate, used = results["medians"][name], (results.get("mfu") or {}).get(name)
        said = f"{rate:,.1f} tiles/s" + ("" if used is None else f", {used:.1%} MFU")
        return Found(said, rate >= least)

    return read


def waiting(results: Json) -> Found | None:
    """Share of the time that bench_train waits for the real loader."""
    waits = results.get("data_wait")
    if not waits:
        return None
    share = statistics.median(waits)
    return Found(f"{share:.1%}", share < 0.03)


def slide(results: Json) -> Found | None:
    """bench_slide_step."""
    if "median" not in results:
        return None
    peak = results.get("peak_gb")
    text = f"{results['median']:.1f} s" + ("" if peak is None else f", {peak:.0f} GB")
    return Found(text, results["median"] < 6 and peak is not None and peak < 60)


def embedding(precision: str) -> Read:
    """bench_embed, beside the usual script."""

    def read(results: Json) -> Found | None:
        rates = results["medians"].get(precision)
        if not rates:
            return None
        ours, theirs = rates["pathtrain embed"], rates["DataLoader, Pillow"]
        floors = f"decoding alone {rates['decoding alone']:,.0f}, network alone {rates['network alone']:,.0f}"
        return Found(f"{ours:,.0f} tiles/s, {ours / theirs:.1f} x DataLoader + Pillow; {floors}")

    return read


def encoding(results: Json) -> Found | None:
    """bench_encode at 256 px."""
    rates = {row["size"]: row for row in results["rows"]}.get(256)
    if rates is None or rates["gpu"] is None:
        return None
    return Found(f"{rates['gpu']:,.0f} tiles/s; {rates['cpu']:,.0f} on all cores")


def sharding(results: Json) -> Found | None:
    """bench_shard with the card and without."""
    rates = {case: results["tiles"] / seconds for case, seconds in results.get("median", {}).items()}
    if "pathprep --gpus 1" not in rates:
        return None
    return Found(f"{rates['pathprep --gpus 1']:,.0f} tiles/s; {rates['pathprep']:,.0f} without the card")


def suite(parts: Json) -> Found | None:
    """The counts that pytest ends with."""
    if (ended := parts.get("tests")) is None:
        return None
    counts = [line for line in ended["tail"] if " in " in line and ("passed" in line or "failed" in line)]
    text = counts[-1].strip("= ").partition(" in ")[0] if counts else ended["state"]
    return Found(
        re.sub(r", \d+ (deselected|warnings?)", "", text), ended["state"] == "passed" and "passed" in text
    )


def sanitizers(parts: Json) -> Found | None:
    """How the four tools ended."""
    ends = {tool: parts[tool]["state"] for tool in SANITIZERS if tool in parts}
    if not ends:
        return None
    clean = len(ends) == len(SANITIZERS) and set(ends.values()) == {"passed"}
    each = (f"{tool} {ends.get(tool, 'not run').replace('passed', 'clean')}" for tool in SANITIZERS)
    return Found("clean" if clean else ", ".join(each), clean)


STAINS = {"none": "", "stored fit": ", normalised by stored fits", "fit on loading": ", fitted on loading"}
ROWS = [
    Row("tests marked gpu", None, suite, "all pass", True),
    Row("kernels under compute-sanitizer: four tools", None, sanitizers, "clean", True),
    Row("Macenko, 256 px", "macenko", kernel("normalise", 256, 1e6), "1,000,000 tiles/s", True),
    Row("Macenko, 224 px", "macenko", kernel("normalise", 224)),
    Row("Macenko, 512 px", "macenko", kernel("normalise", 512)),
    Row("applying a stain matrix, 256 px", "macenko", kernel("apply", 256, copies=1.25), "1.25 copies"),
    Row("applying a stain matrix, 224 px", "macenko", kernel("apply", 224)),
    Row("applying a stain matrix, 512 px", "macenko", kernel("apply", 512)),
    *(Row(f"cutting {side} px tiles", "tiling", cut(side, side)) for side in (224, 256, 512)),
    Row("cutting 512 px tiles, halved", "tiling", cut(512, 256)),
    *(
        Row(
            f"ten views of {side} px tiles{said}",
            "loader",
            loader(f"{side}px", stain, 4000 if (side, said) == (256, "") else None),
            "4,000 tiles/s" if (side, said) == (256, "") else "",
            (side, said) == (256, ""),
        )
        for side in (256, 512)
        for stain, said in STAINS.items()
    ),
    Row("DINO step, ViT-B/16, bfloat16, batch 128", "train-128", training(True, 0.45), "45 % MFU", True),
    Row("its wait for data", "train-128", waiting, "under 3 %", True),
    Row("the same step, views ready in memory", "train-128", training(False)),
    Row("DINO step, ViT-B/16, bfloat16, batch 64", "train-64", training(True)),
    Row("the same step at 64, views ready in memory", "train-64", training(False)),
    Row("DINOv2 step, ViT-g/14, 224 and 98 px, batch 32", "dinov2-g", dinov2(60), "60 tiles/s", True),
    Row("DINOv2 step, ViT-L/14, 224 and 98 px, batch 64", "dinov2-l", dinov2(200), "200 tiles/s", True),
    Row("DINOv2 step, ViT-g/14, 392 and 168 px, batch 12", "dinov2-392", dinov2(25), "25 tiles/s", True),
    Row("step through a slide of 10,000 tiles", "slide", slide, "under 6 s, 60 GB", True),
    Row("embedding, ViT-B/16, float32 (TF32)", "embed", embedding("float32")),
    Row("embedding, ViT-B/16, bfloat16", "embed", embedding("bfloat16"), main=True),
    Row("encoding 256 px tiles as JPEG", "encode", encoding),
    Row("sharding 16 slides, `--gpus 1`", "shard", sharding, main=True),
]
