"""Which slides an input means, and what they are called in the dataset."""

import os
from pathlib import Path

import pytest

from pathprep.errors import UsageError
from pathprep.slides.find import SlideSource, find


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


def test_csv_of_pandas_and_r_where_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text('"","slide","mpp","mask"\n"1","a.svs",NA,NaN\n"2","b.svs",0.25,\n')
    for name in ("a.svs", "b.svs"):
        (tmp_path / name).write_bytes(name.encode())
    found = find([tmp_path / "slides.csv"])
    assert [(each.path.name, each.mpp, each.mask) for each in found] == [
        ("a.svs", None, None),
        ("b.svs", 0.25, None),
    ]
    (tmp_path / "slides.csv").write_text("slide,mpp\na.svs,inf\n")
    with pytest.raises(UsageError, match=r"line 2: mpp 'inf'; give micrometres per pixel, above 0"):
        find([tmp_path / "slides.csv"])


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
        ("slide,mpp\nx.svs\n", "line 2: 1 cell, the header has 2"),
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


def test_a_slide_that_is_named_twice(tmp_path: Path) -> None:
    a = touch(tmp_path / "a.svs")
    csv, other = tmp_path / "one.csv", tmp_path / "other.csv"
    csv.write_text("slide,mpp\na.svs,0.5\n./a.svs,0.5\na.svs,\n")
    other.write_text("slide,mask\na.svs,a.png\n")
    assert find([csv, other, tmp_path]) == [SlideSource(a, 0.5, tmp_path / "a.png")]
    csv.write_text("slide,mpp\na.svs,0.5\n./a.svs,0.25\n")
    with pytest.raises(
        UsageError, match=r"named twice, with mpp 0.5 \(.*, line 2\) and mpp 0.25 .*line 3.*keep one"
    ):
        find([csv])
    csv.write_text("slide,mask\na.svs,b.png\n")
    with pytest.raises(
        UsageError, match=r"with mask .*b.png \(.*one.csv, line 2\) and mask .*other.csv, line 2"
    ):
        find([csv, other])


def test_one_mask_for_two_slides(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "x" / "a.svs"), touch(tmp_path / "y" / "a.svs", b"other")
    mask = touch(tmp_path / "m" / "a.png")
    with pytest.raises(UsageError, match="would be the mask of"):
        find([a, b], tmp_path / "m")
    b.write_bytes(a.read_bytes())  # a copy, of which one is taken
    assert [source.mask for source in find([a, b], tmp_path / "m")] == [mask, mask]
