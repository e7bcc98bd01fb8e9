"""A dataset's page of values that pathprep never writes: it is a page, or one sentence, and runs nothing."""

import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.reports import EVIL, SHOWN, Shard, unharmed

from pathprep.dataset.schema import build_id
from pathprep.errors import DatasetError
from pathprep.reports.page import report
from pathprep.storage.seals import write_sealed

Values = dict[str, Any]


def forge(path: Path, change: Callable[[Values], object]) -> None:
    """Change a file of JSON and seal it again."""
    values = json.loads(path.read_text())
    change(values)
    write_sealed(path, values)


@pytest.fixture
def dataset(made: Shard, tmp_path: Path) -> Path:
    """A copy of one that needs no slide files for its page."""
    return shutil.copytree(made("fit"), tmp_path / "dataset")


@pytest.fixture(scope="module")
def plain(made: Shard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the dataset as it was made."""
    return Path(report(made("fit"), tmp_path_factory.mktemp("plain") / "page.html"))


def text_of(dataset: Path, plain: Path) -> str:
    """The page's text, which is safe."""
    return unharmed(Path(report(dataset, dataset / "page.html")), plain)


def test_every_text_of_a_marker(dataset: Path, plain: Path) -> None:
    def change(marker: Values) -> None:
        long = f"{EVIL}{'long' * 25_000}"
        marker |= {"mpp_source": EVIL, "reader": EVIL, "vendor": long, "own_name": EVIL, "slide_id": EVIL}
        marker |= {"notes": [EVIL, long], "left_out": EVIL, "hue": EVIL}
        marker["source"] |= {"path": f"/{EVIL}/{long}", "mask": EVIL}
        for key in ("counts", "stain", "seconds"):
            marker[key] |= {EVIL: 7, f"{key}{long}": 8}

    forge(dataset / "slides" / "first.json", change)
    text = text_of(dataset, plain)
    assert text.count(SHOWN) >= 8
    assert "more characters)" in text


def test_every_text_of_a_failed_slide_and_of_the_parameters(dataset: Path, plain: Path) -> None:
    failed = next((dataset / "failed").glob("*.json"))
    forge(failed, lambda entry: entry.update({"error": EVIL, "stage": EVIL, "kind": EVIL}))
    info = json.loads((dataset / "dataset.json").read_text())
    info["params"] |= {"reader": EVIL, "mode": EVIL, EVIL: EVIL}
    build = build_id(info["params"])
    write_sealed(dataset / "dataset.json", {**info, "build_id": build})
    for path in (dataset / "slides").glob("*.json"):
        forge(path, lambda marker: marker.update(build_id=build))
    assert text_of(dataset, plain).count(SHOWN) >= 4


@pytest.mark.parametrize(
    "changes",
    [
        {"height": 0},
        {"width": 0, "height": 0},
        {"mpp": None},
        {"counts": {}, "seconds": {}, "stain": {}},
        {"stain": {"unknown": 24}},
        {"grid": {"columns": 0, "rows": 0, "side": 0, "stride": 0, "stored": 0, "level": 0, "per_region": 0}},
        {"tiles": 2**62, "mpp": 1e299},
        {"source": {"path": "", "size": None}},
        {"source": {"path": "", "size": "large"}},
        {"stain_fit": {"he": [], "max_c": []}},
    ],
)
def test_numbers_that_no_slide_has(changes: Values, dataset: Path, plain: Path) -> None:
    forge(dataset / "slides" / "first.json", lambda marker: marker.update(changes))
    assert "third" in text_of(dataset, plain)


@pytest.mark.parametrize(
    ("key", "value"), [("mpp", None), ("tile", []), ("tissue", {}), ("min_tissue", EVIL), ("subsampling", 3)]
)
def test_parameters_that_are_none_are_one_sentence(
    key: str, value: object, dataset: Path, tmp_path: Path
) -> None:
    info = json.loads((dataset / "dataset.json").read_text())
    info["params"][key] = value
    write_sealed(dataset / "dataset.json", {**info, "build_id": build_id(info["params"])})
    with pytest.raises(
        DatasetError, match="dataset.json: its parameters are not as|says what this version never"
    ):
        report(dataset, tmp_path / "page.html")


def test_figures_without_end_leave_the_page_whole(dataset: Path, tmp_path: Path) -> None:
    name = "index/first.parquet"
    table = pq.read_table(dataset / name)
    for column in ("focus", "white", "pen", "hsv"):
        place = table.column_names.index(column)
        values = pa.array(np.full(len(table), np.inf, np.float32))
        table = table.set_column(place, table.schema.field(column), values)
    data = io.BytesIO()
    pq.write_table(table, data)
    (dataset / name).write_bytes(data.getvalue())
    record = {"size": len(data.getvalue()), "sha256": hashlib.sha256(data.getvalue()).hexdigest()}
    forge(dataset / "slides" / "first.json", lambda marker: marker["files"].update({name: record}))
    page = Path(report(dataset, tmp_path / "page.html")).read_text()
    embedded = re.search(r'id="qc-data">(.*?)</script>', page, re.DOTALL)
    assert embedded is not None
    odd: list[str] = []
    json.loads(embedded[1], parse_constant=odd.append)
    assert odd == []
