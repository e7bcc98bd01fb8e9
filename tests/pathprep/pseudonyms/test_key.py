"""The key file and its table: private, never in the dataset, safe for runs side by side."""

import multiprocessing
import re
import time
from pathlib import Path

import pytest

from pathprep.errors import UsageError
from pathprep.pseudonyms import key as keys
from pathprep.pseudonyms import table
from pathprep.pseudonyms.key import Key
from pathprep.pseudonyms.labels import rewrite
from pathprep.pseudonyms.table import Row


def test_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "study.key"
    made = keys.take(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.take(path) == made == keys.read(path)
    assert re.fullmatch(r"s[a-z2-7]{12}", made.name("S19-01234"))
    assert keys.take(tmp_path / "other.key").name("S19-01234") != made.name("S19-01234")


def test_nothing_shows_the_secret(tmp_path: Path) -> None:
    made = keys.take(tmp_path / "study.key")
    secret = (tmp_path / "study.key").read_text().splitlines()[1]
    assert secret not in repr(made)
    assert made.id not in secret


def test_composed_and_decomposed_umlauts_are_one_name() -> None:
    made = Key(None, b"1" * 32)
    assert made.name("Mu\u0308ller") == made.name("M\u00fcller")


def test_names_of_other_kinds_differ() -> None:
    made = Key(None, b"1" * 32)
    assert len({made.name("A", kind)[1:] for kind in "sfgi"}) == 4


def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    keys.take(tmp_path / "study.key")
    (tmp_path / "study.key").chmod(0o640)
    with pytest.raises(UsageError, match="others may read the key file.*chmod 600"):
        keys.read(tmp_path / "study.key")


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"secret", b"pathprep pseudonym key, version 1\n12\n"])
def test_what_is_no_key_is_refused_and_left(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="not a key file"):
        keys.take(path)
    assert path.read_bytes() == data


def test_key_in_dataset_is_refused_through_links_too(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "dataset")
    for place in ("dataset/study.key", "dataset/sub/../study.key", "link/study.key"):
        with pytest.raises(UsageError, match="lies in the dataset"):
            keys.take(tmp_path / place, tmp_path / "dataset")
    assert not any((tmp_path / "dataset").iterdir())


def test_key_in_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent/study.key: the key file cannot be made"):
        keys.take(tmp_path / "absent" / "study.key")


def test_dry_run_makes_none(tmp_path: Path) -> None:
    assert keys.take(tmp_path / "study.key", dry=True).path is None
    assert not any(tmp_path.iterdir())


def test_table_keeps_what_is_not_utf8(tmp_path: Path) -> None:
    key = keys.take(tmp_path / "study.key")
    row = Row("sabc", 'inv\udcff, "x"\nA', "/a/inv\udcff.tif")
    table.add(key, [row])
    assert table.rows(key) == [row]
    assert key.table.stat().st_mode & 0o777 == 0o600


def test_a_large_table_grows_in_seconds(tmp_path: Path) -> None:
    key = keys.take(tmp_path / "study.key")
    table.add(key, [Row(key.name(f"A{number}"), f"A{number}") for number in range(20_000)])
    start = time.process_time()
    table.add(key, [Row(key.name(f"A{number}"), f"A{number}") for number in range(10_000, 25_000)])
    assert len(table.rows(key)) == 25_000
    assert time.process_time() - start < 10


def test_collision_is_refused(tmp_path: Path) -> None:
    key = keys.take(tmp_path / "study.key")
    table.add(key, [Row("sabc", "A", "/a/A.tif"), Row("sabc", "A", "/b/A.tif")])
    with pytest.raises(UsageError, match="B and A would have one pseudonym, sabc"):
        table.add(key, [Row("sabc", "B", "/a/B.tif")])
    assert [row.name for row in table.rows(key)] == ["A", "A"]


def _add(path: Path, number: int) -> None:
    key = keys.take(path)
    for each in range(10):
        table.add(key, [Row(key.name(f"{number}-{each}"), f"{number}-{each}")])


def test_runs_side_by_side_share_one_key_and_lose_no_row(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=_add, args=(tmp_path / "study.key", number)) for number in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert all(run.exitcode == 0 for run in runs)
    key = keys.read(tmp_path / "study.key")
    assert {row.name for row in table.rows(key)} == {f"{n}-{i}" for n in range(4) for i in range(10)}
    assert all(row.pseudonym == key.name(row.name) for row in table.rows(key))


def test_labels_get_the_datasets_names(tmp_path: Path) -> None:
    key = keys.take(tmp_path / "study.key")
    table.add(key, [Row(key.name("S19-01234"), "S19-01234", "/a/S19-01234.svs")])
    given = tmp_path / "labels.csv"
    given.write_text(
        "slide,patient,her2,seen,age\n"
        "S19-01234.svs,Mueller Hans,positive,2019-03-02,61\n"
        "/archive/S20-7.svs,NA,negative,2020-01-01,50\n"
    )
    done = rewrite(key, given, tmp_path / "out.csv")
    first, second, last = (tmp_path / "out.csv").read_text().splitlines()
    assert first == "slide,patient,her2,age"
    assert second == f"{key.name('S19-01234')},{key.name('Mueller Hans', 'g')},positive,61"
    assert last == f"{key.name('S20-7')},,negative,50"
    assert done.left == {"seen": "a date, such as '2019-03-02'"}
    assert (done.unknown, done.kept) == (1, ["her2", "age"])
    kept = rewrite(key, given, tmp_path / "out.csv", keep=["seen"])
    assert "seen" in kept.kept
