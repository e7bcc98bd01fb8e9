"""One table, as Excel, LibreOffice, pandas and R write it, and every way in which a CSV can be wrong."""

from pathlib import Path

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
        ("slide,x\na,1\n\nb\n", ", line 4: 1 cells, the header has 2"),
        ("slide;x\r\na;1;2\r\n", ", line 2: 3 cells, the header has 2"),
        ('slide,x\na,"1\nb,2\n', r", line 3: cannot be read as CSV \(unexpected end of data\)"),
        ('slide,x\na,"1" 2\n', r", line 2: cannot be read as CSV \(',' expected after '\"'\)"),
        ("slide,größe\na,1\n".encode("cp1252"), ', line 1: not text in UTF-8; save it as "CSV UTF-8"'),
        ("slide,x\na,1\nä,1\n".encode("cp1252"), ', line 3: not text in UTF-8; save it as "CSV UTF-8"'),
        ("slide\ta\n".encode("utf-16-le"), ': not text in UTF-8; save it as "CSV UTF-8"'),
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
