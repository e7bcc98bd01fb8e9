"""Tables that are wrong, huge or damaged: one line that names file and fix, soon, and in little memory."""

import csv
import random
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pathprep.errors import UsageError
from pathprep.storage import parquet, tables
from pathtrain.data import label_table

LONG = 400  # letters that a message may have


def message(path: Path) -> str:
    """What reading says, or nothing; it must be a line."""
    start = time.monotonic()
    try:
        tables.read(path)
        said = ""
    except UsageError as error:
        said = str(error).replace(str(path), path.name)
    assert time.monotonic() - start < 20
    assert "\n" not in said
    assert len(said) < LONG
    return said


def test_a_quote_that_is_not_closed_is_named_where_it_stands(tmp_path: Path) -> None:
    # cldf/csvw, report 52, and wireservice/csvkit, report 382: the reader reads on to the end, or to its
    # limit, and names the place where it stops, which may be thousands of lines further down
    path = tmp_path / "t.csv"
    rows = [f"s{n},{'Lorem ipsum dolor ' * 20}\n" for n in range(1000)]
    rows[20] = 's20,"i am an unclosed comment\n'
    path.write_text("slide,x\n" + "".join(rows))
    assert message(path) == (
        "t.csv, line 22 (read on to line 381): cannot be read as CSV "
        "(field larger than field limit (131072)); a cell so long mostly is a quote that is not closed; "
        "close it, or take it out"
    )
    path.write_text("slide,x\n" + "".join(rows[:30]))
    assert message(path).startswith(
        "t.csv, line 22 (read on to line 31): cannot be read as CSV (unexpected end"
    )


WRONG = {
    "nul": (b"slide,x\na,1\nb,\x002\n", "t.csv, line 3: not text in UTF-8 (it holds a NUL); save it as"),
    "megabytes in a cell": (
        b"slide,x\na," + b"1" * (1 << 22) + b"\n",
        "t.csv, line 2: cannot be read as CSV",
    ),
    "latin 1": ("slide,x\na,1\nb,gr\xf6\xdfe\n".encode("latin-1"), "t.csv, line 3: not text in UTF-8; save"),
    "utf-16 without a mark": ("slide,x\na,1\n".encode("utf-16-be"), "t.csv, line 1: not text in UTF-8"),
    "a million columns": (
        b",".join(b"c%d" % n for n in range(10**6)) + b"\n",
        "t.csv: 1,000,000 columns, at",
    ),
    "many columns of one name": (b"a," * 99_999 + b"a\n", "t.csv: two columns are named 'a'; rename one"),
    "the last two of one name": (
        b",".join(b"c%d" % n for n in range(90_000)) + b",c89999\n",
        "t.csv: two columns are named 'c89999'; rename one",
    ),
    "many columns without a name": (b"," * 99_000 + b"\n", "t.csv: needs a header and rows below it"),
    "a name of megabytes": (
        b"a" * 100_000 + b"," + b"a" * 100_000 + b"\n",
        "t.csv: two columns are named 'aaa",
    ),
    "ten million separators": (b"a\n" + b"," * 10**7, "t.csv: needs a header and rows below it"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_csv_is_one_line(kind: str, tmp_path: Path) -> None:
    content, expected = WRONG[kind]
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert message(path).startswith(expected)


def test_the_columns_that_there_are_are_named_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    names = [f"column_{n}_{'x' * 200}" for n in range(5000)]
    path.write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    with pytest.raises(UsageError, match=r"no column slide.*\.\.\. and 4980 more") as raised:
        tables.read(path, ("slide",))
    assert len(str(raised.value)) < 5000


def test_numbers_of_any_size_are_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("slide,x\na," + "9" * 5000 + "\nb,1e400\nc,-inf\n")
    assert tables.read(path).columns["x"] == ["9" * 5000, "1e400", "-inf"]
    pq.write_table(pa.table({"x": [1e308, np.inf, -np.inf, np.nan, 2.0]}), tmp_path / "t.parquet")
    read = tables.read(tmp_path / "t.parquet").columns["x"]
    assert [read[0][:3], *read[1:]] == ["100", "inf", "-inf", "", "2"]


def test_a_parquet_file_of_more_cells_than_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 300 million ones take 10 kB in a file
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": pa.array([1] * 10_000, pa.int8())}), path)
    monkeypatch.setattr(parquet, "MOST_CELLS", 9_999)
    monkeypatch.setattr(tables.parquet, "read", lambda *_: pytest.fail("took memory"))
    assert message(path).startswith("t.parquet: 10,000 rows of 1 columns; at most 100,000 columns and")


def test_dates_that_python_does_not_have_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": pa.array([1 << 55], pa.timestamp("ms"))}), path)
    assert message(path).startswith("t.parquet: not a Parquet file (")


def test_damaged_parquet_is_one_line(tmp_path: Path) -> None:
    path, chance = tmp_path / "t.parquet", random.Random(0)
    table = pa.table({"slide": [f"s{n}" for n in range(200)], "x": list(range(200)), "day": ["2020"] * 200})
    for compression in ("zstd", "snappy", "none"):
        pq.write_table(table, path, compression=compression)
        whole = path.read_bytes()
        for _ in range(200):
            damaged = bytearray(whole)
            for _ in range(chance.choice((1, 3))):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            path.write_bytes(damaged[: chance.choice((len(damaged), chance.randrange(len(damaged))))])
            message(path)


def test_csv_of_any_bytes_is_a_table_or_one_line(tmp_path: Path) -> None:
    path, chance = tmp_path / "t.csv", random.Random(0)
    pieces = [
        b"slide",
        b"label",
        b",",
        b";",
        b"\t",
        b"\n",
        b"\r\n",
        b"\r",
        b'"',
        b"#",
        b"sep=;",
        b"\xef\xbb\xbf",
    ]
    pieces += [b"\xff\xfe", b"\0", b"1e999", b"NA", b"\xc3", b"\xa0", "\u2028".encode(), b"=1+1", b"\x1b[2J"]
    for _ in range(2000):
        path.write_bytes(b"".join(chance.choices(pieces, k=chance.randrange(25))))
        message(path)
        try:
            label_table.read([path], {"slide"})
        except UsageError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_the_limit_of_cells_is_left_to_other_programs() -> None:
    assert csv.field_size_limit() == 131072
