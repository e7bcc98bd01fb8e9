"""Every slide has one name in a dataset, and keeps it."""

from pathlib import Path

from helpers.markers import slide_marker

from pathprep.dataset.marker import SlideRecord, sealed
from pathprep.sharding.names import with_names
from pathprep.slides.find import SlideSource
from pathprep.storage import atomic


def touch(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_marker(root: Path, name: str, slide: SlideSource) -> None:
    source = SlideRecord(str(slide.path), slide.path.stat().st_size)
    marker = slide_marker("b", slide=name, source=source, inputs=slide.inputs())
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
