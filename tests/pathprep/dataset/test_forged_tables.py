"""Tables whose marker vouches for them, and which hold other columns than any version writes."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.slides import tissue
from helpers.toys import write_dataset

from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import sha256
from pathprep.dataset.verify import verify
from pathprep.errors import DatasetError
from pathprep.storage.seals import write_sealed


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("offset", pa.nulls(1, pa.int64())), ("offset", pa.array(["x"])), ("length", pa.array([2**62])),
        ("x", pa.array([{"a": 1}])), ("stain_status", pa.array([1])), ("he", pa.array(["x"])),
    ],
)  # fmt: skip
def test_a_table_of_other_columns_is_named_by_all_readers(
    column: str, values: pa.Array, tmp_path: Path
) -> None:
    """Whoever sealed it: no reader falls over it, and none takes it."""
    root = write_dataset(tmp_path / "d", {"a": [tissue(64, 64)]})
    path, marker = root / "index" / "a.parquet", root / "slides" / "a.json"
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, values), path)
    said = json.loads(marker.read_text())
    record = {"size": path.stat().st_size, "sha256": sha256(path)}
    write_sealed(marker, said | {"files": said["files"] | {"index/a.parquet": record}})
    found, _ = verify(root)
    assert [line.partition(" (column")[0] for line in found.problems] == ["index/a.parquet: cannot be read"]
    for read in (
        lambda: Dataset(root).table("a"),
        lambda: Dataset(root)[0],
        lambda: Dataset(root).tiles([column]),
    ):
        with pytest.raises(DatasetError, match=str(path)):
            read()
