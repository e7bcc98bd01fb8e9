"""Inputs, made once; a folder for each trial; and what of a folder must be the same."""

import hashlib
import io
import json
import re
import shutil
import string
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from chaos.commands import INPUTS, Command
from chaos.runs import Ended, Run, Warm
from chaos.shim import Arm

# Strangers' files: names that a careless sweep would take
FOREIGN = ("notes.txt", ".tmp-mine", ".hidden", "theirs/model.safetensors", "theirs/.tmp-host~1.x~a")
# A lock; the hash of rows that hold clocks, which `pathtrain verify` compares
UNLIKE = {".lock", "log.seal.json"}
State = dict[str, bytes | str]


@dataclass
class Place:
    """Warm processes, inputs and trials under one folder."""

    folder: Path
    _warm: dict[str, Warm] = field(default_factory=dict)
    _held: ExitStack = field(default_factory=ExitStack)
    _trials: int = 0

    def __enter__(self) -> "Place":
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder / "trials", ignore_errors=True)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._held.close()

    def warm(self, package: str) -> Warm:
        """The warm process of a package, started when it is first needed."""
        if package not in self._warm:
            self._warm[package] = self._held.enter_context(Warm(package, self.folder / f"warm-{package}"))
        return self._warm[package]

    def input(self, name: str) -> Path:
        """An input, made if it is not there."""
        path = self.folder / "inputs" / name
        path.parent.mkdir(exist_ok=True)
        if not any(path.parent.glob(f"{name}*")):
            argv = self.argv(INPUTS[name], path.parent / "none", own=name)
            made = self.warm(Command(name, INPUTS[name]).package).run(Run(argv))[0]
            if made.code:
                raise RuntimeError(f"{' '.join(argv)}: {made.text}")
        return path

    def argv(self, line: str, out: Path, own: str | None = None) -> list[str]:
        """A command's line with its places filled in."""
        values = {"out": str(out)}
        for _, name, _, _ in string.Formatter().parse(line):
            if name and name != "out":
                values[name] = str(self.folder / "inputs" / name if name == own else self.input(name))
        return [word.format(**values) for word in line.split()]

    def trial(self, command: Command) -> Path:
        """A new folder as it is before the command, with strangers' files in it."""
        self._trials += 1
        out = self.folder / "trials" / str(self._trials) / "out"
        out.parent.mkdir(parents=True)
        if command.before is None:
            out.mkdir()
        else:
            shutil.copytree(self.input(command.before), out)
        if command.foreign:
            for name in FOREIGN:
                (out / name).parent.mkdir(exist_ok=True)
                (out / name).write_text(f"of a stranger: {name}")
        return out

    def run(
        self, command: Command, out: Path, arm: Arm | None = None, kill_after: float | None = None
    ) -> Ended:
        """The command, once."""
        return self.runs(command, out, 1, arm, kill_after)[0]

    def runs(
        self, command: Command, out: Path, count: int, arm: Arm | None = None, kill_after: float | None = None
    ) -> list[Ended]:
        """The command, so many times at once."""
        run = Run(self.argv(command.line, out), arm, kill_after, learn=arm is not None and arm.at == 0)
        return self.warm(command.package).run(*[run] * count)

    def check(self, command: Command, out: Path) -> str:
        """What the command's check finds wrong; strangers' files are taken away before."""
        if command.check is None:
            return ""
        take_foreign(out)
        for path in [*out.rglob("*")]:
            if path.is_file() and command.is_shed(str(path.relative_to(out))):
                path.unlink()
        argv = self.argv(command.check, out)
        found = self.warm(argv[0]).run(Run(argv))[0]
        return found.text if found.code else ""


def take_foreign(out: Path) -> None:
    """Remove the strangers' files."""
    for name in FOREIGN:
        (out / name).unlink(missing_ok=True)
        if "/" in name and (out / name).parent.is_dir() and not any((out / name).parent.iterdir()):
            (out / name).parent.rmdir()


def lost(command: Command, out: Path) -> list[str]:
    """Strangers' files that are gone or changed."""
    if not command.foreign:
        return []
    return [
        name
        for name in FOREIGN
        if not (out / name).is_file() or (out / name).read_text() != f"of a stranger: {name}"
    ]


def state(out: Path) -> State:
    """Every file and folder, but for strangers' and locks; clocks and places left out of what records them.

    Each start of a run has a file of its own for TensorBoard, named by clock and process.
    """
    found: State = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if name in FOREIGN or name == "theirs" or path.name in UNLIKE or path.match("tensorboard/*"):
            continue
        if path.is_dir():
            found[f"{name}/"] = "folder"
        else:
            found[name] = plain(path, out)
    return found


def plain(path: Path, out: Path) -> bytes:
    """A file's content without clocks and without the trial's own place."""
    data = path.read_bytes()
    for pattern, reader in READERS.items():
        if path.match(pattern):
            with suppress(ValueError, RuntimeError, OSError):  # what a killed run left is not whole
                data = reader(data)
    return data.replace(str(out).encode(), b"{out}")


CLOCKS = {
    "seconds",
    "seal",
    "date",
    "started",
    "images_s",
    "data_wait",
    "seconds_step",
    "tiles_per_second",
    "pid",
    "time",
}


def without_clocks(value: object) -> object:
    """JSON without what the clock decides."""
    if isinstance(value, dict):
        return {key: without_clocks(each) for key, each in value.items() if key not in CLOCKS}
    return [without_clocks(each) for each in value] if isinstance(value, list) else value


def _checkpoint(data: bytes) -> bytes:
    """What it holds: two files of equal values may differ in which equal words are one object."""
    import torch

    value = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    digest = hashlib.sha256()

    def add(each: Any) -> None:
        if isinstance(each, torch.Tensor):
            digest.update(f"{each.dtype} {tuple(each.shape)}".encode())
            digest.update(each.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(each, dict):
            digest.update(f"dict {len(each)}".encode())
            for key, held in each.items():
                digest.update(repr(key).encode())
                add(held)
        elif isinstance(each, list | tuple):
            digest.update(f"list {len(each)}".encode())
            for held in each:
                add(held)
        else:
            digest.update(repr(each).encode())

    add(value)
    return digest.digest()


def _account(data: bytes) -> bytes:
    """Of a checkpoint; that its hash is right, `pathtrain verify` tells."""
    return json.dumps({**json.loads(data), "sha256": "", "seal": ""}, sort_keys=True).encode()


def _json(data: bytes) -> bytes:
    return json.dumps(without_clocks(json.loads(data)), sort_keys=True).encode()


def _lines(data: bytes) -> bytes:
    return b"\n".join(_json(line) for line in data.splitlines())


TIME = re.compile(
    rb"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?|\d\d \w+ \d{4}, \d\d:\d\d|[\d.,]+ (s|ms|tiles/s|min)\b"
)


def _page(data: bytes) -> bytes:
    return TIME.sub(b"(time)", data)


READERS: Mapping[str, Callable[[bytes], bytes]] = {
    "checkpoints/*.json": _account,
    "checkpoints/*.pt": _checkpoint,
    "*.json": _json,
    "*.jsonl": _lines,
    "*.html": _page,
}
