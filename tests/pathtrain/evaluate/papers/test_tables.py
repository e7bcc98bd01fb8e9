"""Tables of evaluations on a terminal: figures whole, a row a line, names cut where they must be."""

import io
from typing import Any

import pytest
from rich.console import Console

from pathtrain.cli.evaluate_collapse import collapse_table, panels_table
from pathtrain.cli.evaluate_linear import linear_tables
from pathtrain.cli.evaluate_table import results_table
from pathtrain.evaluate.papers.paper import read

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


def table_result(name: str, paper: str) -> dict[str, Any]:
    words = read(paper)
    keys = list(words.columns)[:-1]  # the last is not there
    figures = {key: 0.5 + 0.01 * number for number, key in enumerate(keys)}
    leads = {key: {"lead": 0.064, "interval": [0.032, 0.094]} for key in keys}
    rows = [
        {"name": n, "figures": figures, "mean": 0.867, "leads": {} if n == "model" else leads}
        for n in ("model", "random", "colour+LBP")
    ]
    failed = {keys[0]: "no such file"}
    models = [
        {
            "model": {"name": name},
            "rows": rows,
            "baselines": {"random": {"seeds": [1, 2, 3]}},
            "failed": failed,
        }
    ]
    row = words.rows[-1]
    return {
        "paper": words.model_dump(include={"title", "sources", "figure", "notes"}),
        "columns": [{"key": key, **each.model_dump()} for key, each in words.columns.items()],
        "present": keys,
        "missing": list(words.columns)[-1:],
        "own_settings": {keys[0]: {"seeds": 1, "iterations": 7}, keys[1]: {"iterations": 7, "seeds": 1}},
        "models": models,
        "differences": [
            {"column": keys[0], "first": name, "second": "b", "difference": 0.0123, "interval": None}
        ],
        "published": [{"name": row.name, "figures": words.published(row), "mean": 0.86}],
    }


@pytest.mark.parametrize("paper", ["exaonepath1", "midnight"])
@pytest.mark.parametrize("width", [80, 120])
def test_table(width: int, paper: str) -> None:
    result = table_result(SHORT, paper)
    lines = shown(results_table(result), width)
    titles = [column["title"] for column in result["columns"][:-1]]
    heads = [line.split() for line in lines if titles[0] in line or "BreakHis" in line]
    assert heads[0][: len(titles[:6])] == titles[:6]
    own = [line.split() for line in lines if line.strip().startswith(SHORT + " ") and "0." in line]
    found = [cell for line in own for cell in line[1:]]
    wanted = [f"{value:.3f}" for value in result["models"][0]["rows"][0]["figures"].values()]
    assert found[: len(wanted) + 1] == [*wanted, "0.867"]  # in blocks, the mean at the end
    text = " ".join("\n".join(lines).split())
    assert f"{result['published'][0]['name']} (published)" in text
    assert f"{SHORT}, {result['present'][0]}: failed: no such file" in text
    assert f"Not there: {result['columns'][-1]['title']}." in text
    assert f"Not as published, {titles[0]}, {titles[1]}: set here: iterations 7, seeds 1." in text
    assert [titles[1], "colour+LBP", "+0.064", "[+0.032,", "+0.094]"] in [line.split() for line in lines]
    assert [*SHORT.split(), "less", "b", "+0.012", "-"] == [
        cell for line in lines if " less b " in line for cell in line.split()[1:]
    ]
    long = shown(results_table(table_result(LONG, paper)), width)
    assert any(line.strip().startswith(LONG[:20]) and line.split()[-1] == "0.867" for line in long)


@pytest.mark.parametrize("width", [80, 120])
def test_linear(width: int) -> None:
    figures = {**spread(("accuracy", "balanced"), 0.8), "accuracy_seeds_interval": [0.7, 0.9]}
    figures |= {"balanced_seeds_interval": [0.7, 0.9], "per_class": {"x": {"tiles": 3, "recall": 0.5}}}
    figures |= {"ece": 0.1, "brier": 0.2}
    settings = {
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 0,
        "batch": 128,
        "iterations": 9,
        "optimizer": "sgd",
    }
    for name in (SHORT, LONG):
        result = {
            "model": {"name": name},
            "protocol": "80:20 by slide",
            "published": "exaonepath",
            "differs": [],
            "absent": [],
            "unknown": ["schedule"],
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
