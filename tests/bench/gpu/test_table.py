"""The table of what was measured on cards: nothing in it by hand."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

Scripts = dict[str, ModuleType]
MACHINE = {"cpu": "A CPU", "cores": 16, "date": "2027-01-02"}
CARD = {"name": "NVIDIA H200", "driver": "580.1", "clock": "1980 MHz", "memory_clock": "3201 MHz"}


def write(folder: Path, parts: dict[str, Any], **results: Any) -> Path:
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"machine": MACHINE, "cards": [CARD], "parts": parts}))
    for name, values in results.items():
        (folder / f"{name.replace('_', '-')}.json").write_text(json.dumps(values))
    return folder


def cells(table: str) -> dict[str, list[str]]:
    """What of each row -> its cells; of rows called the same, the first."""
    found: dict[str, list[str]] = {}
    for line in table.splitlines():
        if line.startswith("| "):
            what, *rest = [cell.strip() for cell in line.strip("|").split("|")]
            found.setdefault(what, rest)
    return found


def test_readme_and_site_have_what_the_script_writes(scripts: Scripts) -> None:
    pages = dict(scripts["table"].pages())
    assert {page.name for page in pages} == {"README.md", "limits.md"}
    for page, text in pages.items():
        assert page.read_text() == text, f"{page}: run bench/gpu/table.py"


def test_without_results_every_row_says_so(scripts: Scripts) -> None:
    rows = scripts["rows"].ROWS
    found = cells(scripts["table"].table(rows, []))
    assert found.pop("what") == ["target", "result"]
    found.pop("---")
    assert len(found) == len({row.what for row in rows})
    assert {values[1] for values in found.values()} == {"not yet measured"}


def test_results_are_held_against_their_targets(scripts: Scripts, tmp_path: Path) -> None:
    table = scripts["table"]
    ended = {"passed": {"state": "passed", "tail": []}, "failed": {"state": "failed", "tail": []}}
    rows = [
        {"device": "CPU", "size": 256, "case": "normalise", "tiles_s": 9e9, "copies": 1.0},
        {"device": "NVIDIA H200", "size": 256, "case": "normalise", "tiles_s": 1.25e6, "copies": 6.5},
        {"device": "NVIDIA H200", "size": 256, "case": "apply", "tiles_s": 3e6, "copies": 1.5},
        {"device": "NVIDIA H200", "size": 224, "case": "apply", "tiles_s": 4e6, "copies": None},
        {"device": "NVIDIA H200", "size": 224, "case": "normalise", "error": "OutOfMemoryError: full"},
    ]
    medians = {"ours": 900.0, "ours, compiled": 1000.0, "ours, compiled, real loader": 950.0, "eager": 2000.0}
    folder = write(
        tmp_path / "gpu-h200",
        {
            "tests": {
                "state": "failed",
                "tail": ["FAILED x", "= 3 failed, 90 passed, 7 deselected, 1 warning in 200.1s ="],
            },
            "memcheck": ended["passed"],
            "racecheck": {"state": "too slow", "tail": []},
            "macenko": ended["failed"],  # after those rows
            "train-128": ended["passed"],
            "slide": ended["passed"],
            "loader": ended["failed"],
            "embed": ended["failed"],
        },
        macenko={"rows": rows},
        train_128={
            "medians": medians,
            "mfu": {name: rate / 2000 for name, rate in medians.items()},
            "data_wait": [0.01, 0.05, 0.02],
        },
        dinov2_g={"medians": {"ours": 50.0, "ours, compiled": 61.25}, "mfu": {}},
        dinov2_l={"medians": {"ours": 150.0}, "mfu": {"ours": 0.28}},
        slide={"median": 4.25, "peak_gb": 70.2},
        embed={"model": "vit"},
    )
    found = cells(table.table(table.ROWS, [folder]))
    assert found["what"] == ["target", "NVIDIA H200"]
    values = {what: rest[1] for what, rest in found.items()}
    assert values["tests marked gpu"] == "3 failed, 90 passed (not met)"
    assert values["kernels under compute-sanitizer: four tools"] == (
        "memcheck clean, racecheck too slow, synccheck not run, initcheck not run (not met)"
    )
    assert values["Macenko, 256 px"] == "1,250,000 tiles/s, 6.50 copies (met)"
    assert values["applying a stain matrix, 224 px"] == "4,000,000 tiles/s"
    assert values["Macenko, 224 px"] == "not yet measured: failed"
    assert values["Macenko, 512 px"] == "not yet measured: failed"
    assert values["applying a stain matrix, 256 px"] == "3,000,000 tiles/s, 1.50 copies (not met)"
    assert values["DINO step, ViT-B/16, bfloat16, batch 128"] == "950 tiles/s, 47.5% MFU (met)"
    assert values["the same step, views ready in memory"] == "1,000 tiles/s, 50.0% MFU"
    assert values["its wait for data"] == "2.0% (met)"
    assert values["DINOv2 step, ViT-g/14, 224 and 98 px, batch 32"] == "61.2 tiles/s (met)"
    assert values["DINOv2 step, ViT-L/14, 224 and 98 px, batch 64"] == "150.0 tiles/s, 28.0% MFU (not met)"
    assert values["step through a slide of 10,000 tiles"] == "4.2 s, 70 GB (not met)"
    assert values["ten views of 256 px tiles"] == "not yet measured: failed"
    assert values["embedding, ViT-B/16, bfloat16"] == "not yet measured: failed"
    said = table.table(table.ROWS, [folder])
    assert said.endswith(
        "NVIDIA H200: driver 580.1, 1980 MHz at most, memory 3201 MHz, A CPU, 16 cores, 2027-01-02."
    )


def test_each_card_has_a_column(scripts: Scripts, tmp_path: Path) -> None:
    tools = scripts["parts"].SANITIZERS
    assert tools == scripts["rows"].SANITIZERS
    parts = {tool: {"state": "passed", "tail": []} for tool in tools}
    for name in ("gpu-b", "gpu-a"):
        write(tmp_path / name, parts if name == "gpu-b" else {})
    where = scripts["table"].folders(tmp_path)
    assert [folder.name for folder in where] == ["gpu-a", "gpu-b"]
    row = cells(scripts["table"].table(scripts["rows"].ROWS, where))[
        "kernels under compute-sanitizer: four tools"
    ]
    assert row == ["clean", "not yet measured", "clean (met)"]
