"""Files of scores as pandas, R, spreadsheets, CLAM and TRIDENT write them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.scored import grid, write_csv, write_hdf5, write_parquet

from pathprep.errors import UsageError
from pathprep.scores.columns import Classes, natural
from pathprep.scores.placed import place
from pathprep.scores.read import read_scores
from pathprep.scores.rows import named
from pathprep.scores.write import Tiles, write_scores


@pytest.mark.parametrize(
    "text",
    [
        "slide,x,y,side,score,cluster\na,0,64,64,0.25,tumour\na,64,64,64,,stroma\n",
        "\ufeffslide;x;y;side;score;cluster\r\na;0;64;64;0,25;tumour\r\na;64;64;64;NA;stroma\r\n",  # Excel
        ",slide,x,y,side,score,cluster\n0,a,0.0,64.0,64,0.25,tumour\n1,a,64.0,64.0,64,NaN,stroma\n",  # pandas
        '"slide" "x" "y" "side" "score" "cluster"\n'.replace(" ", "\t")
        + '"1"\t"a"\t0\t64\t64\t0.25\t"tumour"\n"2"\t"a"\t64\t64\t64\tNA\t"stroma"\n',  # R's write.table
        "Slide ID,X,Y,Tile side,score,cluster\na.svs,0,64,64,0.25,tumour\na.svs,64,64,64,nan,stroma\n",
    ],
)
def test_tables_as_programs_write_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(text)
    rows = read_scores(path).only("a")
    assert rows.x.tolist() == [0, 64]
    assert rows.y.tolist() == rows.side.tolist() == [64, 64]
    assert rows.columns["score"][0] == 0.25
    assert np.isnan(rows.columns["score"][1])
    classes = rows.columns["cluster"]
    assert isinstance(classes, Classes)
    assert [classes.names[code] for code in classes.codes] == ["tumour", "stroma"]


def test_parquet_keeps_kinds(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    table = {
        "slide": pa.array(["a", "b", "a"]).dictionary_encode(),
        "x": pa.array([0, 1, 2], pa.int32()),
        "y": pa.array([0.0, 1.0, 2.0]),
        "p": pa.array([0.5, None, 1], pa.float32()),
        "cluster": pa.array([3, 10, 2]),
        "count": pa.array([3, 10, 2]),
        "kept": pa.array([True, False, True]),
        "name": pa.array(["x.jpg"] * 3),
        "he": pa.array([[1.0], [2.0], [3.0]]),
        "__index_level_0__": pa.array([7, 8, 9]),
    }
    pq.write_table(pa.table(table), path)
    scores = read_scores(path)
    assert set(scores.slides) == {"a", "b"}
    assert scores.columns == ["p", "cluster", "count", "kept", "name"]
    assert scores.ranges == {"p": (0.5, 1.0), "count": (2.0, 10.0)}
    rows = scores.only("a")
    classes = rows.columns["cluster"]
    assert isinstance(classes, Classes)
    assert classes.names == ("2", "3", "10")  # as on every slide of the file
    assert classes.codes.tolist() == [1, 0]
    assert rows.side.tolist() == [0, 0]
    assert ["he" in note for note in scores.notes] == [True]


def test_thousands_of_rows_and_slides(tmp_path: Path) -> None:
    rows = [row for number in range(30) for row in grid(40, 25, 256, slide=f"s{number}")]
    table, text = write_parquet(tmp_path / "a.parquet", rows), write_csv(tmp_path / "a.csv", rows)
    for path in (table, text):
        scores = read_scores(path)
        assert len(scores.slides) == 30
        one = scores.only("s7.tif")
        assert len(one) == 1000
        np.testing.assert_allclose(one.columns["score"], np.arange(1000) / 1000)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slide,x,side,score\na,1,2,3\n", "no column y"),
        ("slide,x,y,side\na,1,2,3\n", "no score"),
        ("slide,x,y,side,score\na,1,5,3,4\na,1,,3,4\n", "row 3: y is nan"),
        ("slide,x,y,side,score\na,1,2,3,inf\n", "row 2: score is infinite"),
        ("slide,x,y,side,score\na,left,2,3,1\n", "column x are level-0 pixels"),
        ("slide,x,y,side,score\na,1e30,2,3,1\n", "x is 1e\\+30"),
        ("slide,x,y,side,score\na,1,2,3,1\n,1,2,3,1\n", "says no slide"),
        ("x,y,tile_size,score\n1,2,256,1\n", "has no side"),  # of which level?
        ("slide,x,y,side,score\na,-5,2,3,1\n", "lies outside"),
        ("slide,x,y,side,score\na,5,2000,3,1\n", "lies outside of its 1000x1000"),
        ("slide,x,y,side,score\na,5,2,3,1\na,5,2,3,2\n", "row 3: .* comes a second time"),
        ("slide,x,y,side,score\na,5,2,3000,1\n", "larger than the slide"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        place(path, "a", read_scores(path).only("a"), 1000, 1000)


@pytest.mark.parametrize("name", ["p grade group 1", "p class 2", "cluster score", "predicted_prob"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_probability_that_is_zero_or_one_is_no_class(tmp_path: Path, name: str, ending: str) -> None:
    """Of one neighbour every vote is 0 or 1, and a class may be called "grade group 1"."""
    coords = np.array([[0, 0], [64, 0]], np.int64)
    columns = {"class": ["a", "b"], name: np.array([1.0, 0.0])}
    write_scores(tmp_path / f"s.{ending}", [Tiles("a", coords, 64, columns)])
    found = read_scores(tmp_path / f"s.{ending}").only("a").columns
    assert isinstance(found["class"], Classes)
    assert isinstance(found[name], np.ndarray)
    assert found[name].tolist() == [1.0, 0.0]


def test_a_slide_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "s.csv", [*grid(1, 1, 8, slide="one"), *grid(1, 1, 8, slide="two")])
    with pytest.raises(UsageError, match="no row of slide three; it has one, two"):
        read_scores(path).only("three")
    both = write_csv(tmp_path / "b.csv", [*grid(1, 1, 8, slide="a"), *grid(1, 1, 8, slide="a.svs")])
    with pytest.raises(UsageError, match=r"a and a\.svs are one slide"):
        read_scores(both).of(named(["a"]))


def test_notes_on_doubts(tmp_path: Path) -> None:
    rows = [*grid(4, 4, 64), {"x": 256, "y": 0, "side": 64, "score": ""}]
    path = write_csv(tmp_path / "s.csv", rows)
    (missing,) = place(path, "a", read_scores(path).only("a"), 320, 256).notes
    assert "1 tile without score" in missing
    _, corner = place(path, "a", read_scores(path).only("a"), 4000, 4000).notes
    assert "level 0" in corner


def test_clam_block_map_has_no_side_and_is_called_after_the_slide(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "S1.23_blockmap.h5", [[0, 0], [512, 0]], {}, attention_scores=[[0.1], [0.9]])
    rows = read_scores(path).only("S1.23")
    assert rows.columns["attention_scores"].tolist() == [0.1, 0.9]
    assert rows.side.tolist() == [0, 0]
    with pytest.raises(UsageError, match="has no side"):
        place(path, "a", rows, 1024, 1024)
    assert place(path, "a", rows, 1024, 1024, 512).rows.side.tolist() == [512, 512]


def test_clam_patches_of_a_lower_level_cover_more_of_level_0(tmp_path: Path) -> None:
    """CLAM's report 41: 256 px of level 1, which is 4 times smaller, are 1024 px of level 0."""
    attributes = {"patch_size": 256, "patch_level": 1, "downsample": np.array([4.0, 4.0]), "name": "a"}
    path = write_hdf5(tmp_path / "x.h5", [[0, 0], [1024, 0]], attributes, scores=[1.0, 2.0])
    assert read_scores(path).only("a").side.tolist() == [1024, 1024]
    unknown = write_hdf5(tmp_path / "y.h5", [[0, 0]], {"patch_size": 256, "patch_level": 1}, scores=[1.0])
    assert read_scores(unknown).only("y").side.tolist() == [0]  # asked for, not guessed


def test_clam_mb_attention_is_a_column_per_branch(tmp_path: Path) -> None:
    """CLAM's reports 42 and 239: (3, N) attention that was flattened coloured tiles by the wrong scores."""
    attention = np.arange(12.0).reshape(3, 4)
    path = write_hdf5(
        tmp_path / "a.h5", [[64 * i, 0] for i in range(4)], {"patch_size_level0": 64}, A=attention
    )
    rows = read_scores(path).only("a")
    assert list(rows.columns) == ["A 0", "A 1", "A 2"]
    assert rows.columns["A 1"].tolist() == [4, 5, 6, 7]
    wrong = write_hdf5(tmp_path / "b.h5", [[0, 0], [9, 9]], {"patch_size_level0": 9}, A=np.arange(5.0))
    with pytest.raises(UsageError, match=r"no score.*\(5,\) of float64 are no scores of tiles"):
        read_scores(wrong)


def test_damaged_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 200)
    with pytest.raises(UsageError, match="not a readable HDF5"):
        read_scores(path)
    empty = write_hdf5(tmp_path / "b.h5", np.zeros((0, 2)), {}, A=np.zeros(0))
    with pytest.raises(UsageError, match="coords are"):
        read_scores(empty)


def test_natural_order() -> None:
    assert sorted(["9" * 5000, "c", "10"], key=natural) == ["10", "9" * 5000, "c"]
    assert sorted(["cluster 10", "cluster 9", "b", "2", "10"], key=natural) == [
        "2", "10", "b", "cluster 9", "cluster 10"
    ]  # fmt: skip
