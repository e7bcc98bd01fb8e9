"""Plain sections: tiles lie where the spots are, at the right MPP; tables of other tools; what is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from helpers.expression import GENES, counts, st_folder
from PIL import Image

from pathprep.errors import DatasetError, UsageError
from pathtrain.evaluate.expression.count_table import CountTable
from pathtrain.evaluate.expression.plain_sections import PlainSection, stated
from pathtrain.evaluate.expression.tasks import tasks_of
from pathtrain.images import resize
from pathtrain.params.expression import HestParams

PLACES = {f"{x}x{y}" for x in range(1, 6) for y in range(1, 6)}
HEAD = "section,patient,picture,counts,spots,mpp"


def sections(path: Path, pitch: float | None = None, mpp: float | None = None) -> list[PlainSection]:
    return [PlainSection(each) for each in stated(path, pitch, mpp)]


def row(name: str, patient: str, mpp: str) -> str:
    places = f"ST-spotfiles/{name}_selection.tsv"
    return f"{name},{patient},ST-imgs/{patient}/{name}/he.png,ST-cnts/{name}.tsv,{places},{mpp}"


def test_tiles_are_112_um_around_the_spots(tmp_path: Path) -> None:
    (section,) = sections(st_folder(tmp_path, {"A1": "A"}))
    assert (section.patient, section.mpp, section.side) == ("A", pytest.approx(2.0), 56)
    with Image.open(section.source) as picture:
        pixels = np.array(picture)
    spot = section.spots.index("3x2")
    assert section.places[spot].tolist() == [300, 200]
    expected = resize(pixels[172:228, 272:328].copy(), 224)
    np.testing.assert_array_equal(section.tile(spot), expected)
    section.close()
    np.testing.assert_array_equal(section.tile(spot), expected)


def test_spots_at_the_edge_unselected_and_without_counts_are_told(tmp_path: Path) -> None:
    folder = st_folder(tmp_path, {"A1": "A"})
    places = folder / "ST-spotfiles" / "A1_selection.tsv"
    lines = places.read_text().splitlines()
    lines[1] = "1\t1\t1\t1\t20\t100\t1"  # its tile reaches over the left edge
    lines[2] = lines[2][:-1] + "0"
    lines[3] = lines[3].replace("3\t1", "33\t1", 1)
    places.write_text("\n".join(lines))
    table = folder / "sections.csv"
    table.write_text(f"{HEAD}\n{row('A1', 'A', '2')}\n")
    (section,) = sections(folder)
    assert section.left_out == {
        "at the edge of the picture": 1,
        "no place": 2,
        "no counts": 1,
        "not selected": 1,
    }
    assert len(section.spots) == 22


def test_a_table_of_sections_and_mpps_that_differ(tmp_path: Path) -> None:
    folder = st_folder(tmp_path, {"A1": "A", "B1": "B"})
    table = folder / "sections.csv"
    table.write_text("\n".join([HEAD, row("A1", "A", "2"), row("B1", "B", "1.0")]))
    found = sections(folder)
    assert [(each.mpp, each.mpp_from, each.side) for each in found] == [(2, "stated", 56), (1, "stated", 112)]
    with pytest.raises(UsageError, match=r"he.png: 1 MPP is stated, but spots 200 um apart make it 2;"):
        sections(folder, pitch=200.0)
    table.write_text("\n".join([HEAD, row("A1", "A", "")]))
    with pytest.raises(UsageError, match=r"he.png: at what MPP is it\? .*`picture_mpp`.*`pitch_um`"):
        sections(folder)
    assert sections(folder, pitch=100.0)[0].mpp == pytest.approx(1.0)
    bad = {
        row("A1", "A", "20"): "20 MPP: 112 um are cut at 0.1 to 4",
        row("A1", "A", "x"): "mpp x is no number",
        "\n".join([row("A1", "A", "2")] * 2): "a section is there twice",
    }
    for text, words in bad.items():
        table.write_text(f"{HEAD}\n{text}")
        with pytest.raises(UsageError, match=words):
            sections(folder)
    table.write_text(f"{HEAD}\n{row('Z9', 'A', '2')}")
    with pytest.raises(DatasetError, match=r"Z9/he.png: not there, section Z9 needs it"):
        sections(folder)


def test_places_that_are_no_array_or_of_another_picture(tmp_path: Path) -> None:
    folder = st_folder(tmp_path, {"A1": "A"})
    places = folder / "ST-spotfiles" / "A1_selection.tsv"
    text = places.read_text()
    head, *rows = [line.split("\t") for line in text.splitlines()]
    wide = ["\t".join([*cells[:4], str(3 * int(cells[4])), *cells[5:]]) for cells in rows]
    places.write_text("\n".join(["\t".join(head), *wide]))
    with pytest.raises(UsageError, match=r"a step of x is 300.0 px, of y 100.0: no square array"):
        sections(folder)
    far = ["\t".join([*cells[:4], str(9000 + int(cells[4])), *cells[5:]]) for cells in rows]
    places.write_text("\n".join(["\t".join(head), *far]))
    with pytest.raises(DatasetError, match=r"no spot's tile of 56 px lies inside he.png \(600 x 600 px\)"):
        sections(folder)
    bad = {
        "barcode\tpixel_x\nA\t1\n": "no column pixel_y",
        "pixel_x\tpixel_y\n1\t1\n": "needs a column spot or barcode, or x and y",
        f"{text}5\t5\t5\t5\t500\t500\t1\n": "line 27: spot 5x5 is there twice",
        text.replace("\t1\n", "\t0\n"): "no spot is selected",
        text.replace("\t500\t500\t", "\tx\t500\t"): "a place is no number",
    }
    for written, words in bad.items():
        places.write_text(written)
        with pytest.raises(UsageError, match=words):
            sections(folder)


def test_a_picture_that_is_none_and_one_too_many(tmp_path: Path) -> None:
    folder = st_folder(tmp_path, {"A1": "A"})
    picture = folder / "ST-imgs" / "A" / "A1" / "he.png"
    (picture.parent / "notes.txt").write_text("x")
    assert len(sections(folder)) == 1
    picture.write_bytes(picture.read_bytes()[:300])
    with pytest.raises(DatasetError, match=r"he.png: cannot be decoded"):
        sections(folder)
    (picture.parent / "two.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match="2 pictures of section A1"):
        sections(folder)


def written(path: Path, separator: str = "\t", corner: bool = True, turned: bool = False) -> Path:
    """Counts of 3 spots as a text."""
    values, rows, columns = counts(3, 0).astype(str), ["1x1", "2x1", "3x1"], GENES
    if turned:
        values, rows, columns = values.T, columns, rows
    lines = [separator.join(([""] if corner else []) + list(columns))]
    lines += [separator.join([name, *cells]) for name, cells in zip(rows, values.tolist(), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("how", ["plain", "comma", "gz", "r", "turned", "bom"])
def test_tables_of_counts_as_tools_write_them(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a.tsv"
    written(path, "," if how == "comma" else "\t", corner=how != "r", turned=how == "turned")
    if how == "gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    if how == "bom":
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found = CountTable(path, PLACES)
    assert found.spots.tolist() == ["1x1", "2x1", "3x1"]
    np.testing.assert_array_equal(found.of(["NOISE", "DARK"]), counts(3, 0)[:, [2, 1]])
    np.testing.assert_array_equal(found.totals(), counts(3, 0).sum(axis=1))


def test_tables_of_counts_that_are_none(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tsv")
    with pytest.raises(DatasetError, match=r"no spot in common with the table of places; .*like 1x1, 2x1"):
        CountTable(path, {"9x9"})
    good = path.read_text()
    bad = {
        good.replace("\t7\n", "\tx\n", 1): "cannot be read as counts",
        good.replace("2x1", "1x1"): "spot 1x1 is there twice",
        good.replace("DARK", "BRIGHT"): "gene BRIGHT is there twice",
        good.splitlines()[0]: "cannot be read as counts|holds no counts",
        "": "cannot be read as counts|holds no counts",
    }
    for text, words in bad.items():
        path.write_text(text)
        with pytest.raises(DatasetError, match=rf"a.tsv: .*({words})"):
            CountTable(path, PLACES)
    path.write_bytes(gzip.compress(good.encode())[:-12])
    with pytest.raises(DatasetError, match="cannot be read as counts"):
        CountTable(path, PLACES)
    with pytest.raises(DatasetError, match=r"gone.tsv: cannot be read as counts"):
        CountTable(tmp_path / "gone.tsv", PLACES)


def test_an_empty_cell_is_no_zero(tmp_path: Path) -> None:
    folder = st_folder(tmp_path, {"A1": "A", "B1": "B"})
    path = folder / "ST-cnts" / "B1.tsv"
    lines = path.read_text().splitlines()
    spot, _, *others = lines[4].split("\t")
    path.write_text("\n".join([*lines[:4], "\t".join([spot, "", *others]), *lines[5:]]))
    genes = tmp_path / "genes.txt"
    genes.write_text("BRIGHT\nNOISE\n")
    with pytest.raises(DatasetError, match=r"B1.tsv: BRIGHT of spot 4x1 is nan, not a number"):
        tasks_of(folder, HestParams(), genes, None)
    with pytest.raises(DatasetError, match=r"B1.tsv: BRIGHT of spot 4x1 is nan, not a number"):
        tasks_of(folder, HestParams(top_genes=2), None, None)  # nor when genes are chosen


def test_the_most_variable_genes_are_expressed_everywhere(tmp_path: Path) -> None:
    folder = st_folder(tmp_path, {"A1": "A", "B1": "B"})
    for name in ("A1", "B1"):
        path = folder / "ST-cnts" / f"{name}.tsv"
        first, *rest = path.read_text().splitlines()
        more = [f"{line}\t{9000 * (at == 0)}\t{at * 40}" for at, line in enumerate(rest)]
        path.write_text("\n".join([f"{first}\tRARE\tBLANK_1", *more]))
    ((task, _, _),) = tasks_of(folder, HestParams(top_genes=3), None, None)
    assert sorted(task.genes) == ["BRIGHT", "DARK", "NOISE"]
    assert (np.diff(task.values.var(axis=0)) <= 0).all()
    with pytest.raises(DatasetError, match=r"4 genes are expressed .* 5 are wanted \(`top_genes`\)"):
        tasks_of(folder, HestParams(top_genes=5), None, None)
