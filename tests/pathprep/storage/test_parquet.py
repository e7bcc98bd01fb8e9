"""Reading Parquet: what pyarrow's own reader gives, without threads that outlive the call."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pathprep.storage import parquet

TABLE = pa.table({"name": ["a", "b"], "size": pa.array([1, 2], pa.int32())})
WIDER = pa.schema([("size", pa.int64()), ("name", pa.string()), ("later", pa.float64())])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("parquet") / "t.parquet"
    pq.write_table(TABLE, found)
    return found


def test_a_file_and_its_bytes_are_read_as_by_pyarrow(path: Path) -> None:
    for source in (path, path.read_bytes()):
        assert parquet.read(source) == pq.read_table(path)
        assert parquet.read(source, ["size"]) == pq.read_table(path, columns=["size"])
        for columns in (None, ["later"], ["name", "size"]):
            assert parquet.read(source, columns, WIDER) == pq.read_table(path, columns=columns, schema=WIDER)


def test_what_is_not_there_is_an_error(path: Path) -> None:
    with pytest.raises(KeyError, match="later"):
        parquet.read(path, ["later"])
    with pytest.raises(pa.ArrowException):
        parquet.read(b"not parquet")
    with pytest.raises(FileNotFoundError):
        parquet.read(path.with_name("none"))


def test_no_thread_is_left_that_a_process_could_end_in(path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from pathprep.storage import parquet\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "parquet.read(pathlib.Path(sys.argv[1]).read_bytes(), ['size'])\n"
        "sys.exit(len(os.listdir('/proc/self/task')) - before)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 0
