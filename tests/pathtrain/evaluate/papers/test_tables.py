"""Tables of evaluations on a terminal: figures whole, a row a line, names cut where they must be."""

import io
from typing import Any

import pytest
from rich.console import Console

from pathtrain.cli.evaluate_collapse import collapse_table, panels_table
from pathtrain.cli.evaluate_linear import linear_tables, results_table
from pathtrain.evaluate.papers.published import EXAONEPATH, TASKS

SHORT, LONG = "run-7", "TCGA-3C-AALI-01Z-00-DX1-F6E9A5DF-D8FB-45CF-B4BD-C6B76294C291"


LEAD = {"accuracy": 0.064, "accuracy_interval": [0.032, 0.094], "balanced": 0.1, "balanced_interval": None}


def shown(table: Any, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), markup=False)
    console.print(table)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    return lines


def line(lines: list[str], start: str) -> str:
    (found,) = [each for each in lines if each.strip(" │┃").startswith(start) and "0" in each]
    return found


def spread(keys: tuple[str, ...], value: float) -> dict[str, Any]:
    low_high = [value - 0.1, value + 0.1]
    return {name: at for key in keys for name, at in ((key, value), (f"{key}_interval", low_high))}


def table_result(name: str) -> dict[str, Any]:
    top1 = {"pcam": 0.911, "mhist": 0.822}
    leads = dict.fromkeys(top1, LEAD)
    rows = [
        {"name": n, "top1": top1, "mean": 0.867, "leads": leads} for n in ("model", "random", "colour+LBP")
    ]
    published = {"name": EXAONEPATH.name, "top1": EXAONEPATH.top1, "mean": 0.86, "mean_of_all": 0.861}
    models = [{"model": {"name": name}, "rows": rows, "baselines": {"random": {"seeds": [1, 2, 3]}}}]
    return {"whole": False, "present": ["pcam", "mhist"], "models": models, "published": [published]}


@pytest.mark.parametrize("width", [80, 120])
def test_table(width: int) -> None:
    lines = shown(results_table(table_result(SHORT)), width)
    assert line(lines, SHORT).split() == [SHORT, "0.911", "0.822", "-", "-", "-", "-", "0.867"]
    published = line(lines, "EXAONEPath 1.0, paper")
    assert published.split()[3:9] == [f"{EXAONEPATH.top1[task.key]:.3f}" for task in TASKS]
    assert ["mhist", "colour+LBP", "+0.064", "[+0.032,", "+0.094]"] in [line.split() for line in lines]
    assert line(shown(results_table(table_result(LONG)), width)[:6], LONG[:20]).split()[-1] == "0.867"


@pytest.mark.parametrize("width", [80, 120])
def test_linear(width: int) -> None:
    figures = {**spread(("accuracy", "balanced"), 0.8), "accuracy_seeds_interval": [0.7, 0.9]}
    figures |= {"balanced_seeds_interval": [0.7, 0.9], "per_class": {"x": {"tiles": 3, "recall": 0.5}}}
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0, "batch": 128, "iterations": 9}
    for name in (SHORT, LONG):
        result = {
            "model": {"name": name},
            "protocol": "80:20 by slide",
            "settings": {**settings, "schedule": "cosine", "seeds": 5},
            "results": [
                {"name": n, **figures, "lead": lead} for n, lead in (("model", None), ("start", LEAD))
            ],
            "baselines": {"start": {"missing": "offline"}},
            **dict.fromkeys(("train_tiles", "left_out_tiles", "test_tiles", "groups", "resize", "crop"), 9),
            **{"group_kind": "slide", "majority": 0.5, "classes": ["x"], "stain": {}},
        }
        cells = "0.800 +-0.100 [0.700, 0.900]"
        lines = shown(linear_tables(result), width)
        assert line(lines[:9], name[:6]).count(cells) == 2
        assert "+0.064 [+0.032, +0.094]" in "".join(lines)
        assert "start: left out: offline" in "".join(lines)


@pytest.mark.parametrize("width", [80, 120])
def test_collapse(width: int) -> None:
    row = {"tiles": 1000, "chance": 0.1, **spread(("own_share", "excess", "silhouette"), 0.5)}
    result = {
        "model": {"name": LONG},
        "k": 20,
        "resize": 224,
        "crop": None,
        **row,
        "slides": {LONG: row, "s2": row},
    }
    lines = shown(collapse_table(result), width)[3:]
    for name in ("all", LONG[:20], "s2"):
        assert line(lines, name).replace("│", " ").split()[1:] == ["1000", "0.500", "0.100", "0.50", "+0.500"]


@pytest.mark.parametrize("width", [80, 120])
def test_panels(width: int) -> None:
    row = spread(("own_share", "excess", "silhouette"), 0.5)
    within = {"own_share": 0.4, "chance": 0.2, "excess": 0.25, "excess_interval": [0.1, 0.4]}
    content = {"balanced": 0.8, "balanced_interval": [0.7, 0.9]}
    more = {"chance": 0.1, "silhouette_chance": 0.0, "title": "some model, some tiles"}
    result = {
        **{"slides": 10, "tiles": 9, "k": 20, "verdict": "It holds.", "resize": 224, "crop": None},
        "panels": [{"panel": panel, **more, **row, "within": within, "content": content} for panel in "abc"],
        "baselines": [{"name": "random weights", "tiles_of": of, **row} for of in "ac"],
        "changes": {"a to b": row},
    }
    lines = shown(panels_table(result), width)
    for name in ("a  ", "random c", "a to b"):
        assert "0.50 [" in line(lines, name) or "+0.50 [" in line(lines, name)
        assert line(lines, name).count("]") == 3
