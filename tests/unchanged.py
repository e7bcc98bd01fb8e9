"""Hashes of what the commands write, to hold a change to its word that it changes nothing.

    python tests/unchanged.py --out before.json      before the change
    python tests/unchanged.py --compare before.json  after it; exit code 1 names what differs

It draws two slides, shards them with ``--stain bake`` and with ``--stain fit``, imports a small tile set,
mixes, trains 20 steps of ``smoke`` and embeds, all through the commands, and hashes every file. Of markers
only what does not tell the time is compared, and of checkpoints and features the arrays. Hashes are of one
machine and one environment: other processors round otherwise.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
# Files about the run, and the commands themselves
UNCOUNTED = {"lock", ".lock", "log.jsonl", "shard.yaml", "import-tiles.yaml", "mix.yaml"}
# What tells the time, or seals what does; tar and index are hashed as they are
VOLATILE = {"seconds", "seal", "mtime", "mtime_ns", "log_dir"}


def run(package: str, *words: object) -> None:
    """One command of the checkout that this file lies in."""
    command = [sys.executable, "-m", package, *map(str, words)]
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def plain(value: Any, work: str) -> Any:
    """JSON without times and with the working folder left out."""
    if isinstance(value, dict):
        return {key: plain(each, work) for key, each in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [plain(each, work) for each in value]
    return value.replace(work, "") if isinstance(value, str) else value


def arrays(value: Any) -> Any:
    """A checkpoint's tensors as hashes of their bytes."""
    import torch

    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous().view(torch.uint8) if value.ndim else value.reshape(1)
        return hashlib.sha256(data.numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        return {str(key): arrays(each) for key, each in sorted(value.items(), key=lambda item: str(item[0]))}
    if isinstance(value, (list, tuple)):
        return [arrays(each) for each in value]
    return repr(value)


def contents(path: Path, work: str) -> bytes:
    """What of a file has to stay as it is."""
    if path.suffix == ".json":
        return json.dumps(plain(json.loads(path.read_bytes()), work), sort_keys=True).encode()
    if path.suffix == ".pt":
        import torch

        found = arrays(torch.load(path, map_location="cpu", weights_only=True))
        return json.dumps(found, sort_keys=True).encode()
    if path.suffix == ".h5":
        import h5py

        with h5py.File(path) as file:
            return b"".join(name.encode() + file[name][()].tobytes() for name in sorted(file))
    return path.read_bytes()


def hashes(work: Path) -> dict[str, str]:
    """Every file that counts: relative name -> SHA-256."""
    found = {}
    for path in sorted(work.rglob("*")):
        name = str(path.relative_to(work))
        if not path.is_file() or name.startswith("slides/") or path.name in UNCOUNTED:
            continue
        if "tfevents" in path.name or ("/checkpoints/" in f"/{name}" and path.suffix == ".json"):
            continue  # a checkpoint's own hash is of a zip file, whose bytes are torch's
        found[name] = hashlib.sha256(contents(path, str(work))).hexdigest()
    return found


def make(work: Path, steps: int) -> dict[str, str]:
    """Run every command and hash what is there then."""
    run("pathprep", "synth", work / "slides", "--slides", 2, "--size", 4096, "--seed", 7)
    slides = work / "slides"
    for stain in ("bake", "fit"):
        run("pathprep", "shard", slides, "--out", work / stain, "--stain", stain, "--workers", 2)
    run("pathprep", "mix", work / "fit", "--out", work / "mixed")
    tile_set(work / "fit", work / "set")
    run("pathprep", "import-tiles", work / "set", "--out", work / "imported", "--stain", "fit")
    train = ("--recipe", "smoke", "--set", f"steps={steps}", "--set", "checkpoint.every=10")
    run("pathtrain", "pretrain", work / "bake", "--out", work / "run", *train)
    run("pathtrain", "pretrain", work / "mixed", "--out", work / "run-mixed", *train)
    run("pathtrain", "export", work / "run", "--out", work / "model")
    run("pathtrain", "embed", work / "model", work / "bake", "--out", work / "features")
    return hashes(work)


def tile_set(dataset: Path, out: Path) -> None:
    """A folder per class, of a dataset's first tiles."""
    import tarfile

    for number, path in enumerate(sorted((dataset / "shards").glob("*.tar"))):
        folder = out / f"class{number}"
        folder.mkdir(parents=True)
        with tarfile.open(path) as tar:
            for member in tar.getmembers()[:20]:
                file = tar.extractfile(member)
                assert file is not None
                (folder / member.name).write_bytes(file.read())
                os.utime(folder / member.name, (1e9, 1e9))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="write the hashes")
    parser.add_argument("--compare", type=Path, help="hashes of before")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    # one path for every run: a slide's path is part of its marker
    work = Path(tempfile.gettempdir()) / "pathprep-unchanged"
    subprocess.run(["rm", "-rf", str(work)], check=True)
    found = make(work, given.steps)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1))
    print(f"{len(found)} files hashed")
    if given.compare:
        before: dict[str, str] = json.loads(given.compare.read_text())
        names = sorted(before.keys() | found.keys())
        differ = [name for name in names if before.get(name) != found.get(name)]
        print(
            "\n".join([*(f"differs: {name}" for name in differ), f"{len(names) - len(differ)} files equal"])
        )
        sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
