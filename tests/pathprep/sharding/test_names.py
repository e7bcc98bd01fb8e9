"""Every slide has one name in a dataset, and keeps it."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from helpers.markers import slide_marker

from pathprep.dataset.failed import FailedShard
from pathprep.dataset.marker import SlideRecord, SourceRecord
from pathprep.errors import UsageError
from pathprep.sharding.names import with_names
from pathprep.slides.dicom import Series
from pathprep.slides.find import SlideSource
from pathprep.storage import atomic
from pathprep.storage.seals import sealed


def touch(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_marker(root: Path, name: str, slide: SlideSource) -> None:
    source = SlideRecord(str(slide.path), slide.path.stat().st_size)
    marker = slide_marker("b", slide=name, source=source, inputs=slide.inputs())
    (root / "slides").mkdir(parents=True, exist_ok=True)
    atomic.write_json(root / "slides" / f"{name}.json", sealed(marker.as_dict()))


def test_names_have_no_dots_and_collide_only_where_they_must(tmp_path: Path) -> None:
    paths = [tmp_path / "TCGA-1.2.svs", tmp_path / "x" / "s.svs", tmp_path / "y" / "s.svs"]
    names = [
        s.name
        for s in with_names(
            [SlideSource(touch(p, bytes([n]))) for n, p in enumerate(paths)], tmp_path / "out"
        ).slides
    ]
    assert "TCGA-1_2" in names
    assert len(set(names)) == 3
    assert all(name.startswith("s-") for name in names if name != "TCGA-1_2")


def test_a_name_stays_with_its_slide(tmp_path: Path) -> None:
    root = tmp_path / "out"
    first = touch(tmp_path / "x" / "s.svs", b"one")
    touch(root / "slides" / "s.json")
    write_marker(root, "s", SlideSource(first))
    other = touch(tmp_path / "y" / "s.svs", b"other")
    assert [s.name for s in with_names([SlideSource(first)], root).slides] == ["s"]
    assert with_names([SlideSource(other)], root).slides[0].name.startswith("s-")
    both = {s.path: s.name for s in with_names([SlideSource(first), SlideSource(other)], root).slides}
    assert both[first] == "s"
    assert both[other].startswith("s-")
    # the archive was moved: same file name, same size
    moved = touch(tmp_path / "new mount" / "s.svs", b"one")
    assert [s.name for s in with_names([SlideSource(moved)], root).slides] == ["s"]


def test_a_name_for_each_resolution(tmp_path: Path) -> None:
    root = tmp_path / "out"
    slide = touch(tmp_path / "a.b.svs")
    found = with_names([SlideSource(slide)], root, (2.0, 0.5)).slides
    assert [(s.name, s.slide, s.at) for s in found] == [("a_b_mpp0-5", "a_b", 0.5), ("a_b_mpp2", "a_b", 2.0)]
    assert [(s.name, s.slide, s.at) for s in with_names([SlideSource(slide)], root, (0.5,)).slides] == [
        ("a_b", "a_b", None)
    ]
    touch(root / "slides" / "s.json")
    elsewhere = touch(tmp_path / "elsewhere" / "other.svs", b"other")
    write_marker(root, "a_b_mpp2", SlideSource(elsewhere))
    assert all(s.slide.startswith("a_b-") for s in with_names([SlideSource(slide)], root, (2.0, 0.5)).slides)


def test_a_slide_enters_a_dataset_once_whatever_a_run_is_about(tmp_path: Path) -> None:
    root = tmp_path / "out"

    def done(sources: list[SlideSource]) -> dict[Path, str]:
        found = with_names(sources, root).slides
        for s in found:
            touch(root / "slides" / f"{s.name}.json")
            write_marker(root, s.name, s)
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


def test_the_same_content_is_taken_once(tmp_path: Path) -> None:
    root = tmp_path / "out"
    a = touch(tmp_path / "b1" / "A.svs", b"one")
    copies = [touch(tmp_path / place, b"one") for place in ("b1/A (1).svs", "b0/A.svs", "b1/Copy of A.svs")]
    (tmp_path / "b1" / "soft.svs").symlink_to(a)
    os.link(a, tmp_path / "b2.svs")
    other = touch(tmp_path / "b1" / "B.svs", b"two")
    every = [*copies, a, tmp_path / "b1" / "soft.svs", tmp_path / "b2.svs", other]
    named = with_names([SlideSource(path) for path in every], root)
    # the shortest name, and of equal ones that in the first folder
    assert {s.name: s.path for s in named.slides} == {"A": tmp_path / "b0" / "A.svs", "B": other}
    assert {repeat.path for repeat in named.repeats} == {*every} - {other, tmp_path / "b0" / "A.svs"}
    assert {repeat.of for repeat in named.repeats} == {tmp_path / "b0" / "A.svs"}
    # that which the dataset holds stays, whatever sorts before it
    write_marker(root, "A__1_-x", SlideSource(copies[0]))
    again = with_names([SlideSource(path) for path in every], root)
    assert {s.name: s.path for s in again.slides} == {"A__1_-x": copies[0], "B": other}


def test_content_that_the_dataset_holds_under_another_name(tmp_path: Path) -> None:
    root = tmp_path / "out"
    old = touch(tmp_path / "A.svs", b"one")
    write_marker(root, "A", SlideSource(old))
    copy = touch(tmp_path / "new" / "X.svs", b"one")
    assert [s.name for s in with_names([SlideSource(copy)], root).slides] == ["A"]
    old.unlink()  # it was renamed
    assert [s.name for s in with_names([SlideSource(copy)], root).slides] == ["A"]
    assert [s.name for s in with_names([SlideSource(touch(tmp_path / "Y.svs", b"two"))], root).slides] == [
        "Y"
    ]


def test_a_dicom_slide_that_failed_keeps_its_name_when_its_other_files_arrive(tmp_path: Path) -> None:
    level, largest = tmp_path / "a.dcm", touch(tmp_path / "b.dcm")
    failed = FailedShard("tissue", "slide", "too coarse", 1, "1_2_3", SourceRecord(str(level), 5), "build")
    (tmp_path / "out" / "failed").mkdir(parents=True)
    atomic.write_json(tmp_path / "out" / "failed" / "1_2_3.json", failed.as_dict())
    slide = SlideSource(largest, series=Series("1.2.3", (largest, level)))
    assert [source.name for source in with_names([slide], tmp_path / "out").slides] == ["1_2_3"]


def test_copies_with_different_mpps_are_refused(tmp_path: Path) -> None:
    a, b = (touch(tmp_path / name, b"one") for name in ("a.svs", "b.svs"))
    with pytest.raises(
        UsageError, match=r"a\.svs and .*b\.svs hold the same slide, and mpp is 0.5 for one and 0.25"
    ):
        with_names([SlideSource(a, 0.5), SlideSource(b, 0.25)], tmp_path)
    assert [s.mpp for s in with_names([SlideSource(a), SlideSource(b, 0.25)], tmp_path).slides] == [0.25]


@pytest.mark.parametrize("seed", range(3))
def test_any_names_in_any_folders(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    letters = [*"aA1_-. %#'[&", "\u00e9", "e\u0301", "\u80c3", "\U0001f52c", "\udc80"]
    sources: dict[Path, str] = {}
    for number in range(120):
        name = "".join(rng.choice(letters, rng.integers(1, 70)).tolist()).strip(".")
        path = tmp_path / f"f{rng.integers(3)}" / f"{name or 'x'}.svs"
        if rng.random() < 0.2 and sources:
            path = tmp_path / "again" / f"{number}.svs"
            touch(path, next(iter(sources)).read_bytes())
        else:
            touch(path, b"%d" % number)
        sources[path] = unicodedata.normalize("NFC", name)
    named = with_names([SlideSource(path) for path in sources], tmp_path / "out")
    assert {s.path for s in named.slides} | {r.path for r in named.repeats} == set(sources)
    contents = {path.read_bytes() for path in sources}
    assert len({s.path.read_bytes() for s in named.slides}) == len(named.slides) == len(contents)
    names = [s.name for s in named.slides]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and len(name) <= 68 for name in names)
    # they stay, also when only some are asked for
    for each in named.slides:
        write_marker(tmp_path / "out", each.name, each)
    some = rng.choice(len(named.slides), 20, replace=False)
    asked = {named.slides[i].path: named.slides[i].name for i in some}
    again = with_names([SlideSource(path) for path in asked], tmp_path / "out")
    assert {s.path: s.name for s in again.slides} == asked
