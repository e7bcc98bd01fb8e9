"""One table, as Excel, LibreOffice, pandas and R write it, and every way in which a CSV can be wrong."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pathprep.errors import UsageError
from pathprep.storage import tables
from pathprep.storage.tables import Columns

COLUMNS = {"slide": ["a.svs", "b;c, d.svs"], "Größe": ["1", "2"], "note": ['a "good" one', ""]}
ROWS = 'slide,Größe,note\na.svs,1,"a ""good"" one"\n"b;c, d.svs",2,\n'
SEMICOLONS = 'slide;Größe;note\na.svs;1;"a ""good"" one"\n"b;c, d.svs";2;\n'
TABS = 'slide\tGröße\tnote\na.svs\t1\t"a ""good"" one"\nb;c, d.svs\t2\t\n'
# pandas' to_csv and R's write.csv put the rows' numbers first
PANDAS = ',slide,Größe,note\n0,a.svs,1,"a ""good"" one"\n1,"b;c, d.svs",2,\n'
R = '"","slide","Größe","note"\n"1","a.svs",1,"a ""good"" one"\n"2","b;c, d.svs",2,""\n'
R2 = R.replace(",", ";").replace("c; d", "c, d")
R_TABS = 'slide\t"Größe"\tnote\n"1"\ta.svs\t1\t"a ""good"" one"\n"2"\tb;c, d.svs\t2\t""\n'
BY_HAND = ' slide , "Größe",note \n\na.svs,  1 , "a ""good"" one"\n"b;c, d.svs", 2,\n\n'


def windows(text: str) -> str:
    return text.replace("\n", "\r\n")


FILES = {
    "Excel, CSV UTF-8": windows(ROWS).encode("utf-8-sig"),
    "Excel, CSV UTF-8 where commas are decimal": windows(SEMICOLONS).encode("utf-8-sig"),
    "Excel, with columns and a row that were emptied": windows(
        SEMICOLONS.replace("\n", ";;\n") + ";;;;\n"
    ).encode("utf-8-sig"),
    "Excel, Unicode text": windows(TABS).encode("utf-16"),
    "big-endian": b"\xfe\xff" + TABS.encode("utf-16-be"),
    "LibreOffice": ROWS.encode(),
    "LibreOffice, tabs": TABS.encode(),
    "pandas": PANDAS.encode(),
    "R": R.encode(),
    "R, write.csv2": R2.encode(),
    "R, write.table with tabs": R_TABS.encode(),
    "pandas, read and written again": PANDAS.replace(",slide", "Unnamed: 0,slide", 1).encode(),
    "cBioPortal": f"#a\tb\tc\n#of it\tof it\ton it\n#STRING\tNUMBER\tSTRING\n#1\t1\t1\n{TABS}".encode(),
    "numpy, savetxt": f"# {ROWS}".encode(),
    "Excel, with its hint": windows(f"sep=;\n{SEMICOLONS}").encode("utf-8-sig"),
    "a comment": f"# written 2020, by hand\n{ROWS}".encode(),
    "old Mac": ROWS.replace("\n", "\r").encode(),
    "by hand": BY_HAND.encode(),
    "without a last line end": ROWS.removesuffix("\n").encode(),
}


def write(folder: Path, content: bytes | str) -> Path:
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("program", FILES)
def test_the_same_table_whoever_wrote_it(tmp_path: Path, program: str) -> None:
    table = tables.read(write(tmp_path, FILES[program]), ("slide", "note"))
    assert table.columns == COLUMNS
    assert len(table) == 2
    assert table.rows()[1] == {"slide": "b;c, d.svs", "Größe": "2", "note": ""}


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("slide\na;b.svs\nc.svs\n", {"slide": ["a;b.svs", "c.svs"]}),
        ('"a;b;c",d\n1,2\n', {"a;b;c": ["1"], "d": ["2"]}),
        ('a,b\n"two\nlines",2\n', {"a": ["two\nlines"], "b": ["2"]}),
        ('a,b\n5" wide,2\n', {"a": ['5" wide'], "b": ["2"]}),
    ],
)
def test_odd_but_clear(tmp_path: Path, text: str, columns: dict[str, list[str]]) -> None:
    assert tables.read(write(tmp_path, text)).columns == columns


def test_a_column_of_hashes_is_no_comment_and_rows_without_a_number_are_no_table_of_r(tmp_path: Path) -> None:
    assert tables.read(write(tmp_path, "#,slide\n1,a\n2,b\n")).columns == {
        "#": ["1", "2"],
        "slide": ["a", "b"],
    }
    for rows in ("1,a,\n2,b,\n", "1,a,x\n1,b,y\n", "1,a,x\nq,b,y\n", "1,a,x\n2,b\n"):
        with pytest.raises(UsageError, match=r"table\.csv, line \d: \d cells, the header has 2"):
            tables.read(write(tmp_path, f"slide,label\n{rows}"))


def test_lines_count_what_stands_above_the_header(tmp_path: Path) -> None:
    table = tables.read(write(tmp_path, '#a b\n#c d\n\nslide,x\na,"1\n2"\n'))
    assert (table.lines, table.at(0)) == ([6], f"{tmp_path / 'table.csv'}, line 6")


def test_parquet_is_read_as_the_csv_of_it(tmp_path: Path) -> None:
    columns = {"__index_level_0__": [0, 1], "slide": ["a", "b"], "n": [1.0, float("nan")], "t": [None, True]}
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    table = tables.read(tmp_path / "table.parquet", ("slide",))
    assert table.columns == {"slide": ["a", "b"], "n": ["1", ""], "t": ["", "True"]}
    assert (table.unnamed, table.at(1)) == (["0", "1"], f"{tmp_path / 'table.parquet'}, row 2")
    (tmp_path / "table.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"table\.parquet: not a Parquet file"):
        tables.read(tmp_path / "table.parquet")


@pytest.mark.parametrize(
    "name",
    ["case_id", "Case ID", "Patient ID", "patient.id", "PatientID", "submitter_id", "case_submitter_id",
     "cases.submitter_id", "bcr_patient_barcode", "PATIENT_ID", "Patient"],
)  # fmt: skip
def test_patients_are_told_by_name(name: str) -> None:
    assert tables.named("patient", ["label", name]) == [name]
    assert tables.named("group", ["label", name]) == [name]


@pytest.mark.parametrize(
    "name", ["slide_id", "Slide", "slide name", "FileName", "file_name", "image", "Image ID"]
)
def test_slides_are_told_by_name(name: str) -> None:
    assert tables.named("slide", ["label", name]) == [name]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    assert tables.read(write(tmp_path, 'a,b\n\n1,"x\ny"\n,\n2,z\n')).lines == [4, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": needs a header and rows below it"),
        ("\n\n", ": needs a header and rows below it"),
        ("slide,x\n", ": needs a header and rows below it"),
        (",\n1,2\n", ": needs a header and rows below it"),
        ("slide,slide\na,b\n", ": two columns are named 'slide'; rename one"),
        ("slide,x\na,1\n\nb\n", ", line 4: 1 cell, the header has 2"),
        ("slide;x\r\na;1;2\r\n", ", line 2: 3 cells, the header has 2"),
        (
            'slide,x\na,"1\nb,2\n',
            r", line 2 \(read on to line 3\): cannot be read as CSV \(unexpected end of data\)",
        ),
        ('slide,x\na,"1" 2\n', r", line 2: cannot be read as CSV \(',' expected after '\"'\)"),
        ("slide,größe\na,1\n".encode("cp1252"), ', line 1: not text in UTF-8; save it as "CSV UTF-8"'),
        ("slide,x\na,1\nä,1\n".encode("cp1252"), ', line 3: not text in UTF-8; save it as "CSV UTF-8"'),
        ("slide\ta\n".encode("utf-16-le"), r", line 1: not text in UTF-8 \(it holds a NUL\); save it as"),
        ("slide\ta\n".encode("utf-16")[:-1], ", line .: not text in UTF-8"),
    ],
)
def test_wrong_files_are_named_with_the_line(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(UsageError, match=rf"table\.csv{message}") as caught:
        tables.read(write(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_columns_that_are_needed(tmp_path: Path) -> None:
    path = write(tmp_path, "Slide,MPP\na,1\n")
    with pytest.raises(UsageError, match=r"table\.csv: no column slide or label; it has Slide, MPP"):
        tables.read(path, ("slide", "label"))
    assert tables.read(path, ("slide",), any_case=True).columns == {"slide": ["a"], "mpp": ["1"]}
    with pytest.raises(UsageError, match="two columns are named 'slide'"):
        tables.read(write(tmp_path, "Slide,slide\na,b\n"), any_case=True)
    with pytest.raises(UsageError, match=r"gone\.csv: cannot be read \(No such file"):
        tables.read(tmp_path / "gone.csv")


def test_columns_by_their_known_names(tmp_path: Path) -> None:
    table = tables.read(write(tmp_path, "Image Name,class,WSI\n1.png,a,g\n"))
    assert table.need("file", Columns()) == ["1.png"]
    assert table.pick("group", Columns()) == ["g"]
    assert table.pick("split", Columns()) is None
    assert table.need("label", Columns(label="WSI")) == ["g"]
    with pytest.raises(UsageError, match="which column is the split"):
        table.need("split", Columns())
    with pytest.raises(UsageError, match=r"no column 'Class' \(`label_column`\)"):
        table.need("label", Columns(label="Class"))
