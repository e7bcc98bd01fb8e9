"""Which slides an input means, and what they are called in the dataset."""

import os
from pathlib import Path

import pytest

from pathprep.dataset.marker import sealed
from pathprep.errors import UsageError
from pathprep.slides.find import SlideSource, find, with_names
from pathprep.storage import atomic


def touch(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_folders_files_and_repeats(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "s" / "a.svs"), touch(tmp_path / "s" / "deep" / "b.NDPI")
    touch(tmp_path / "s" / "notes.txt")
    touch(tmp_path / "s" / ".hidden" / "c.svs")
    odd = touch(tmp_path / "odd.xyz")  # named by hand: taken whatever its suffix
    found = find([tmp_path / "s", a, odd])
    assert [s.path for s in found] == sorted([a, b, odd])


def test_pipes_are_no_slides(tmp_path: Path) -> None:
    touch(tmp_path / "a.svs")
    os.mkfifo(tmp_path / "b.svs")
    (tmp_path / "list.csv").write_text("slide\nb.svs\n")
    assert [source.path.name for source in find([tmp_path])] == ["a.svs"]
    for item in (tmp_path / "b.svs", tmp_path / "list.csv"):
        with pytest.raises(UsageError, match=r"b\.svs: not a file but a pipe, socket or device"):
            find([item])


def test_csv_with_mpp_and_mask(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "a.svs"), touch(tmp_path / "sub" / "b.svs")
    csv = tmp_path / "slides.csv"
    csv.write_text(f"slide,mpp,mask,note\na.svs,0.25,a.png,x\n{b},,,\n")
    # a folder that holds the same slides does not undo what the CSV says
    assert find([csv, tmp_path]) == [SlideSource(a, 0.25, tmp_path / "a.png"), SlideSource(b)]
    assert find([tmp_path, csv]) == [SlideSource(a, 0.25, tmp_path / "a.png"), SlideSource(b)]


def test_csv_of_an_excel_where_commas_are_decimal(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "a.svs"), touch(tmp_path / "b.svs")
    (tmp_path / "slides.csv").write_bytes(
        "Slide;MPP;Mask\r\na.svs;0,25;\r\nb.svs;;b.png\r\n".encode("utf-8-sig")
    )
    assert find([tmp_path / "slides.csv"]) == [SlideSource(a, 0.25), SlideSource(b, None, tmp_path / "b.png")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column slide; it has none"),
        ("path\nx.svs\n", "no column slide; it has path"),
        ("slide,mpp\nx.svs,fine\n", "line 2: mpp 'fine' is not a number"),
        ("slide,mpp\nx.svs\n", "line 2: 1 cells, the header has 2"),
        ("slide,mpp\nx.svs,1\n ,2\n", "line 3: the column 'slide' is empty"),
    ],
)
def test_bad_csvs_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "slides.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"slides\.csv.*{message}"):
        find([path])


def test_inputs_without_slides(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no slides in this folder"):
        find([tmp_path])
    with pytest.raises(UsageError, match="no such file or folder"):
        find([tmp_path / "nothing"])


def test_masks_by_name(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "a.svs"), touch(tmp_path / "b.svs")
    mask_a, mask_b = touch(tmp_path / "m" / "a.geojson"), touch(tmp_path / "m" / "b.png")
    assert find([a, b], tmp_path / "m") == [SlideSource(a, None, mask_a), SlideSource(b, None, mask_b)]
    assert find([a], mask_b) == [SlideSource(a, None, mask_b)]
    with pytest.raises(UsageError, match="one mask for 2 slides"):
        find([a, b], mask_b)
    mask_b.unlink()
    with pytest.raises(UsageError, match="no mask .* for b"):
        find([a, b], tmp_path / "m")


def test_names_have_no_dots_and_collide_only_where_they_must(tmp_path: Path) -> None:
    paths = [tmp_path / "TCGA-1.2.svs", tmp_path / "x" / "s.svs", tmp_path / "y" / "s.svs"]
    names = [s.name for s in with_names([SlideSource(touch(p)) for p in paths], tmp_path / "out")]
    assert "TCGA-1_2" in names
    assert len(set(names)) == 3
    assert all(name.startswith("s-") for name in names if name != "TCGA-1_2")


def test_a_name_stays_with_its_slide(tmp_path: Path) -> None:
    root = tmp_path / "out"
    first = touch(tmp_path / "x" / "s.svs", b"one")
    touch(root / "slides" / "s.json")
    made = {"source": {"path": str(first), "size": 3}, "inputs": SlideSource(first).inputs()}
    atomic.write_json(root / "slides" / "s.json", sealed(made))
    other = touch(tmp_path / "y" / "s.svs", b"other")
    assert [s.name for s in with_names([SlideSource(first)], root)] == ["s"]
    assert with_names([SlideSource(other)], root)[0].name.startswith("s-")
    both = {s.path: s.name for s in with_names([SlideSource(first), SlideSource(other)], root)}
    assert both[first] == "s"
    assert both[other].startswith("s-")
    # the archive was moved: same file name, same size
    moved = touch(tmp_path / "new mount" / "s.svs", b"one")
    assert [s.name for s in with_names([SlideSource(moved)], root)] == ["s"]


def test_a_name_for_each_resolution(tmp_path: Path) -> None:
    root = tmp_path / "out"
    slide = touch(tmp_path / "a.b.svs")
    found = with_names([SlideSource(slide)], root, (2.0, 0.5))
    assert [(s.name, s.slide, s.at) for s in found] == [("a_b_mpp0-5", "a_b", 0.5), ("a_b_mpp2", "a_b", 2.0)]
    assert [(s.name, s.slide, s.at) for s in with_names([SlideSource(slide)], root, (0.5,))] == [
        ("a_b", "a_b", None)
    ]
    touch(root / "slides" / "s.json")
    atomic.write_json(root / "slides" / "a_b_mpp2.json", sealed({"source": {"path": "elsewhere", "size": 1}}))
    assert all(s.slide.startswith("a_b-") for s in with_names([SlideSource(slide)], root, (2.0, 0.5)))


def test_a_slide_enters_a_dataset_once_whatever_a_run_is_about(tmp_path: Path) -> None:
    root = tmp_path / "out"

    def done(sources: list[SlideSource]) -> dict[Path, str]:
        found = with_names(sources, root)
        for s in found:
            marker = {"source": {"path": str(s.path), "size": s.path.stat().st_size}, "inputs": s.inputs()}
            touch(root / "slides" / f"{s.name}.json")
            atomic.write_json(root / "slides" / f"{s.name}.json", sealed(marker))
        return {s.path: s.name for s in found}

    one, two = touch(tmp_path / "a/p1/HE.svs", b"one"), touch(tmp_path / "a/p2/HE.svs", b"two")
    both = done([SlideSource(one), SlideSource(two)])
    assert done([SlideSource(two)]) == {two: both[two]}
    (tmp_path / "a").rename(tmp_path / "b")
    moved = {path: tmp_path / "b" / path.relative_to(tmp_path / "a") for path in (one, two)}
    assert done([SlideSource(moved[two])]) == {moved[two]: both[two]}
    assert done([SlideSource(path) for path in moved.values()]) == {
        moved[one]: both[one],
        moved[two]: both[two],
    }
    # equal name and size, but another slide
    other = touch(tmp_path / "c/p1/HE.svs", b"six")
    assert done([SlideSource(other)])[other] not in both.values()
    assert len(list((root / "slides").iterdir())) == 3
