"""One bad image costs one image, whatever is wrong with it; the others are in, and it is named."""

import errno
import os
import socket
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.jpegs import plain
from helpers.runs import contents
from helpers.tilesets import folders, importing, pcam, rows_of, saved, sound, tile

from pathprep.errors import UnreadableSlide, UsageError
from pathprep.storage import regular
from pathprep.tilesets import find, hdf5, images, reading, walk
from pathprep.tilesets.items import Item
from pathprep.tilesets.reading import Images

# webdataset leaves its tars open
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return folders(tmp_path / "set", {f"{label}/{n}.png": tile(n) for label in "xy" for n in range(4)})


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "error",
    [
        *(MemoryError(), RecursionError("deep"), ZeroDivisionError("x"), OverflowError("x"), EOFError()),
        *(SyntaxError("broken PNG"), KeyError(270), TypeError("x"), UserWarning("x"), AssertionError()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_decoder_raises(
    error: Exception, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = (source / "x" / "1.png").read_bytes()
    real = images.decode

    def decode(data: bytes, *more: bool) -> images.Picture:
        if data == bad:
            raise error
        return real(data, *more)

    (source / "y" / "1.png").unlink()  # the same picture
    monkeypatch.setattr(images, "decode", decode)
    done = importing(source, tmp_path / "out")
    damaged = [image for marker in done.markers.values() for image in marker.damaged]
    assert [image.image for image in damaged] == ["x/1.png"]
    assert damaged[0].error
    assert "\n" not in damaged[0].error
    assert (len(rows_of(tmp_path / "out")), sound(tmp_path / "out")) == (6, True)


def special(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket.png")
    finally:
        os.chdir(here)
    (folder / "device.png").symlink_to("/dev/zero")


@pytest.mark.usefixtures("here")
def test_pipes_devices_and_sockets_are_left_out_and_never_opened(source: Path, tmp_path: Path) -> None:
    special(source / "x")
    tiles = find.find(source)
    assert len(tiles.items) == 8
    (note,) = (note for note in tiles.notes if "no plain file" in note)
    assert note == ("3 files left out, no plain file: x/device.png (a device), x/pipe.png (a pipe), ...")
    rows = [("file", "label"), ("x/0.png", "a"), ("x/pipe.png", "b"), ("y/1.png", "b")]
    (source / "labels.csv").write_text("".join(f"{file},{label}\n" for file, label in rows))
    done = importing(source, tmp_path / "out")
    damaged = [vars(image) for marker in done.markers.values() for image in marker.damaged]
    assert damaged == [{"image": "x/pipe.png", "error": "is a pipe, not a file; put the file itself there"}]


@pytest.mark.parametrize("name", ["pipe.png", "socket.png", "device.png"])
def test_what_is_no_file_is_refused_at_once(name: str, tmp_path: Path) -> None:
    special(tmp_path)
    start = time.monotonic()
    with pytest.raises(OSError, match=r"is a (pipe|device)|No such device"):
        regular.read(tmp_path / name)
    assert time.monotonic() - start < 1


def test_tables_and_image_folders_never_wait_for_a_pipe(tmp_path: Path) -> None:
    from pathprep.errors import DatasetError
    from pathprep.storage import tables
    from pathtrain.data.whole_tiles import FolderTiles

    os.mkfifo(tmp_path / "t.csv")
    os.mkfifo(tmp_path / "t.parquet")
    for path in (tmp_path / "t.csv", tmp_path / "t.parquet"):
        with pytest.raises(UsageError, match=r"t\.\w+: .*is a pipe"):
            tables.read(path)
    os.mkfifo(tmp_path / "x.png")
    (tmp_path / "labels.csv").write_text("file,label\nx.png,a\n")
    with pytest.raises(DatasetError, match=r"x\.png: is a pipe"):
        FolderTiles(tmp_path).read(0)


@pytest.mark.usefixtures("here")
def test_a_file_that_is_too_large_is_not_read(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (source / "x" / "1.png").open("r+b") as file:
        file.truncate(1 << 40)
    done = importing(source, tmp_path / "out")
    (damaged,) = (image for marker in done.markers.values() for image in marker.damaged)
    assert (damaged.image, damaged.error[:24]) == ("x/1.png", "has 1,099,511,627,776 by")


@pytest.mark.usefixtures("here")
def test_an_image_that_could_not_be_read_is_tried_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", regular.read

    def read(path: Path, most: int | None = None) -> bytes:
        if path.name == "2.png" and path.parent.name == "x":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, most)

    monkeypatch.setattr(regular, "read", read)
    for _ in range(2):
        first = importing(source, out)
        damaged = [image for marker in first.done.values() for image in marker.damaged]
        assert [vars(image) for image in damaged] == [
            {"image": "x/2.png", "error": "cannot be read: Permission denied"}
        ]
        assert len(first.markers) + len(first.skipped) == 2
    assert len(rows_of(out)) == 7
    monkeypatch.setattr(regular, "read", real)
    again = importing(source, out)
    assert (len(again.markers), len(rows_of(out)), sound(out)) == (1, 8, True)
    importing(source, tmp_path / "undisturbed")
    assert contents(out) == contents(tmp_path / "undisturbed")


def hanging(monkeypatch: pytest.MonkeyPatch, *names: str) -> threading.Event:
    """Reads of these files wait for the event, as on a mount that died."""
    back, real = threading.Event(), regular.read

    def read(path: Path, most: int | None = None) -> bytes:
        if f"{path.parent.name}/{path.name}" in names:
            back.wait(60)
        return real(path, most)

    monkeypatch.setattr(regular, "read", read)
    return back


@pytest.mark.usefixtures("here")
def test_a_read_that_hangs_costs_its_image_until_the_next_run(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = hanging(monkeypatch, "x/3.png")
    done = importing(source, tmp_path / "out", timeout=2)
    damaged = [image for marker in done.markers.values() for image in marker.damaged]
    assert [image.image for image in damaged] == ["x/3.png"]
    assert damaged[0].error == "cannot be read: did not come within 0.5 s; is its disk there?"
    back.set()
    importing(source, tmp_path / "out")
    assert len(rows_of(tmp_path / "out")) == 8


def test_a_mount_that_is_dead_ends_the_shard_with_the_names_of_its_images(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = hanging(monkeypatch, *(f"x/{n}.png" for n in range(4)))
    with Images(source, in_rows=False, patience=0.1) as read:
        for n in range(reading.HANGS - 1):
            with pytest.raises(OSError, match="did not come within 0.1 s"):
                read.read(Item(f"x/{n}.png"))
        with pytest.raises(
            UnreadableSlide, match=r"set: does not answer: x/0\.png, x/1\.png, x/2\.png did not come within"
        ):
            read.read(Item("x/2.png"))
    back.set()


def test_a_worker_has_one_reader_until_a_read_hangs(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    back = hanging(monkeypatch, "x/1.png")
    read, readers = regular.read, list[threading.Thread]()

    def noted(path: Path, most: int) -> bytes:
        readers.append(threading.current_thread())
        return read(path, most)

    monkeypatch.setattr(regular, "read", noted)
    with Images(source, in_rows=False, patience=0.5) as images:
        for number in (0, 2, 3):
            images.read(Item(f"x/{number}.png"))
        with pytest.raises(OSError, match="did not come"):
            images.read(Item("x/1.png"))
        images.read(Item("x/0.png"))
    back.set()
    first, *_, last = readers
    assert readers == [*[first] * 4, last]
    assert last is not first
    for reader in (first, last):
        reader.join(20)
        assert not reader.is_alive()


@pytest.mark.parametrize("place", ["jpeg.decode", "pictures.decode"])
def test_too_little_memory_is_not_the_fault_of_the_image(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "JPEG" if place == "jpeg.decode" else "PNG"
    (tmp_path / "x").write_bytes(saved(tile(0), kind))
    target = "simplejpeg.decode_jpeg" if kind == "JPEG" else "PIL.Image.open"
    monkeypatch.setattr(target, lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    with Images(tmp_path, in_rows=False) as read, pytest.raises(OSError, match="memory") as raised:
        read.read(Item("x"))
    assert raised.value.errno == errno.ENOMEM


def _damage(path: Path, row: int) -> None:
    """Change a byte in the chunk of a row, whose checksum then does not hold."""
    with h5py.File(path) as file:
        place = file["x"].id.get_chunk_info(row).byte_offset
    with path.open("r+b") as file:
        file.seek(place + 100)
        byte = file.read(1)
        file.seek(place + 100)
        file.write(bytes((byte[0] ^ 1,)))


@pytest.mark.usefixtures("here")
def test_a_damaged_chunk_costs_its_rows(tmp_path: Path) -> None:
    # h5py/h5py, report 2366: a chunk whose fletcher32 does not hold raises when it is read
    pcam(tmp_path / "set", "train", [0, 1] * 3, groups=["a", "b"] * 3)
    _damage(tmp_path / "set" / "camelyonpatch_level_2_split_train_x.h5", 3)
    done = importing(tmp_path / "set", tmp_path / "out")
    damaged = [image for marker in done.markers.values() for image in marker.damaged]
    assert [image.image for image in damaged] == ["camelyonpatch_level_2_split_train_x.h5#3"]
    assert len(rows_of(tmp_path / "out")) == 5
    assert not importing(tmp_path / "set", tmp_path / "out").markers  # it is the file, not the disk


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError("x"), OSError("filter"), TypeError("x")])
def test_whatever_hdf5_raises_for_a_row(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5.Rows, "read", lambda *_: (_ for _ in ()).throw(error))
    with Images(tmp_path, in_rows=True) as read, pytest.raises(ValueError, match=r"x|filter"):
        read.read(Item("a_x.h5#0", row=0))


def test_an_error_of_the_disk_under_hdf5_is_told_from_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "Can't synchronously read data (file read failed: errno = 5, error message = 'Input/output error')"
    )
    monkeypatch.setattr(hdf5.Rows, "read", lambda *_: (_ for _ in ()).throw(OSError(words)))
    with Images(tmp_path, in_rows=True) as read, pytest.raises(OSError, match="Input/output error"):
        read.read(Item("a_x.h5#0", row=0))


def damaged_files(folder: Path) -> list[bytes]:
    pcam(folder, "train", [0, 1])
    whole = (folder / "camelyonpatch_level_2_split_train_x.h5").read_bytes()
    chance = np.random.default_rng(0)
    made = [b"", whole[:100], whole[:-1000], b"x" * 2000]
    for _ in range(150):
        data = bytearray(whole)
        for place in chance.integers(0, len(data), 4):
            data[place] = chance.integers(256)
        made.append(bytes(data))
    return made


def test_a_damaged_hdf5_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "camelyonpatch_level_2_split_train_x.h5"
    for data in damaged_files(tmp_path):
        path.write_bytes(data)
        try:
            tiles = find.find(tmp_path)
        except UsageError as error:
            assert str(path.name) in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            continue
        with Images(tmp_path, in_rows=True) as read:
            for item in tiles.items:
                try:
                    read.read(item)
                except ValueError as error:
                    assert str(error)  # noqa: PT017


def test_hdf5_whose_data_lie_elsewhere_is_refused(tmp_path: Path) -> None:
    images_of = tmp_path / "a_x.h5"
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(2 * 32 * 32 * 3))
    pcam(tmp_path / "real", "train", [0, 1])
    real = tmp_path / "real" / "camelyonpatch_level_2_split_train_x.h5"

    def external(file: h5py.File) -> None:
        file.create_dataset("x", (2, 32, 32, 3), np.uint8, external=[(str(secret), 0, 6144)])

    def linked(file: h5py.File) -> None:
        file["x"] = h5py.ExternalLink(str(real), "x")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((2, 32, 32, 3), np.uint8)
        layout[:] = h5py.VirtualSource(str(real), "x", (2, 32, 32, 3))
        file.create_virtual_dataset("x", layout)

    def bomb(file: h5py.File) -> None:
        file.create_dataset("x", (1 << 17, 512, 512, 3), np.uint8, chunks=(1 << 11, 512, 512, 3))

    for make, words in (
        (external, "in other files"),
        (virtual, "in other files"),
        (linked, "link to another place"),
        (bomb, "do not fit into memory"),
    ):
        with h5py.File(images_of, "w") as file:
            make(file)
        with pytest.raises(UsageError, match=rf"a_x\.h5: 'x' .*{words}"):
            find.find(tmp_path, format="hdf5")


@pytest.mark.usefixtures("here")
def test_names_that_are_not_utf_8_are_left_out_by_name(source: Path, tmp_path: Path) -> None:
    (source / "x" / os.fsdecode(b"inv\xff.png")).write_bytes(plain(tile(9)))
    found, notes = walk.images(source)
    assert len(found) == 8
    assert notes == ["1 file left out, its name is not UTF-8; rename it: 'x/inv\\udcff.png'"]
    importing(source, tmp_path / "out")
    assert sound(tmp_path / "out")
