"""Bundles for a machine with a card that reaches no package registry, made on one that does.

    python bench/gpu/pack.py [--arch 90] [--python 3.12] [--out build/gpu/pack]

Makes OUT/1 and OUT/2, each of at most 64 MB, since such machines may take no more at a time. There, with
torch, CuPy, numba, timm and pytest at hand:

    sh 1/unpack.sh FOLDER; sh 2/unpack.sh FOLDER
    cd FOLDER/project && PYTHONPATH=.:tests:../site python3 bench/gpu/run.py --out RESULTS

DALI's wheel is 200 MB: of its device code all is zeroed but that of one architecture (fatbin.py). A slide and
datasets are drawn here and go along, as the project is at its last commit; changes that are not committed are
left behind. Takes about five minutes, most of it downloads.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import fatbin

PROJECT = Path(__file__).resolve().parents[2]
MOST = 64 * 2**20  # bytes of a bundle
# What is read of a slide and of tiles, checked, configured and tested with
SMALL = [
    *("annotated-types", "pydantic", "typing-inspection", "pebble", "simplejpeg", "torchstain"),
    *("openslide-python", "openslide-bin", "webdataset", "braceexpand", "optree", "gast", "astunparse"),
]
LARGE = ("nvidia-dali-cuda130", "nvidia-nvimgcodec-cu13", "nvidia-nvjpeg")
LIBRARIES = ("libdali.so", "libdali_kernels.so", "libdali_operators.so")  # that fill the first bundle
PLATFORMS = ("2_28", "2_27", "2_17", "2014", "2_5", "1")
NEEDLESS = ("include", "test", "third_party", "lib64")  # in DALI's folder


def versions() -> dict[str, str]:
    """Those that the project is tested with."""
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line)


def download(names: Iterable[str], folder: Path, python: str) -> None:
    """Wheels of these packages alone, for another machine's Python."""
    known = versions()
    wanted = [f"{name}=={known[name]}" if name in known else name for name in names]
    machines = [f"--platform=manylinux{'_' * ('_' in each)}{each}_x86_64" for each in PLATFORMS]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--implementation=cp", f"--python-version={python}", *machines, f"--dest={folder}"]
    subprocess.run([*command, *wanted], check=True)


def needed_core(wheels: Path) -> str:
    """The version of pydantic-core that the pydantic there insists on."""
    with zipfile.ZipFile(next(wheels.glob("pydantic-[0-9]*.whl"))) as wheel:
        name = next(each for each in wheel.namelist() if each.endswith("METADATA"))
        lines = wheel.read(name).decode().splitlines()
    return next(line.split("==")[1] for line in lines if line.startswith("Requires-Dist: pydantic-core=="))


def slimmed(wheels: Path, site: Path, architecture: int, python: str) -> None:
    """Unpack DALI and its decoders without what one Python on one card does not need."""
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(site)
    own = f"cpython-{python.replace('.', '')}"
    for path in sorted(site.rglob("*")):
        if path.is_dir() and path.name in NEEDLESS and "dali" in path.parts:
            shutil.rmtree(path)
        elif path.is_file() and "cpython-3" in path.name and own not in path.name:
            path.unlink()
        elif path.is_file() and ".so" in path.name and path.stat().st_size > 2**20:
            kept, zeroed = fatbin.keep_only(path, architecture)
            if zeroed:
                print(f"  {path.name}: {kept / 1e6:.1f} MB of device code kept, {zeroed / 1e6:.1f} MB zeroed")


def archive(path: Path, root: Path, names: Iterable[Path]) -> None:
    """A .tar.xz of files and folders of ``root``."""
    with tarfile.open(path, "w:xz", preset=4) as tar:
        for name in names:
            tar.add(name, name.relative_to(root))


def main() -> None:
    """Make both bundles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arch", type=int, default=90, help="of the card: 80, 90, 100, 120 ...")
    parser.add_argument("--python", default="3.12", help="that the machine has")
    parser.add_argument("--out", type=Path, default=PROJECT / "build" / "gpu" / "pack")
    parser.add_argument("--data", type=Path, default=PROJECT / "build" / "gpu" / "packed-data")
    parser.add_argument("--size", type=int, default=8192, help="side of the slide that is drawn")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    first, second = options.out / "1", options.out / "2"
    for bundle in (first, second):
        bundle.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("unpack.sh"), bundle)
    with tempfile.TemporaryDirectory() as folder:
        large, site = Path(folder) / "large", Path(folder) / "site"
        print("downloading")
        download(SMALL, first / "wheels", options.python)
        core = f"pydantic-core=={needed_core(first / 'wheels')}"
        download([core], first / "wheels", options.python)
        download(LARGE, large, options.python)
        slimmed(large, site, options.arch, options.python)
        dali = [site / "nvidia" / "dali" / name for name in LIBRARIES]
        archive(first / "dali.tar.xz", site, [path for path in dali if path.exists()])
        for path in dali:
            path.unlink(missing_ok=True)
        archive(second / "rest.tar.xz", site, sorted(site.iterdir()))
    tree = subprocess.run(["git", "archive", "HEAD"], cwd=PROJECT, capture_output=True, check=True).stdout
    packed = subprocess.run(["xz", "-6"], input=tree, capture_output=True, check=True).stdout
    (first / "project.tar.xz").write_bytes(packed)
    draw = [sys.executable, str(Path(__file__).with_name("draw.py")), str(options.data)]
    subprocess.run([*draw, "--slides", "0", "--size", str(options.size)], check=True, cwd=PROJECT)
    archive(second / "data.tar.xz", options.data, sorted(options.data.iterdir()))
    for bundle in (first, second):
        size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
        print(f"{bundle}: {size / 1e6:.0f} MB")
        if size > MOST:
            raise SystemExit(
                f"{bundle}: more than {MOST / 1e6:.0f} MB; give a smaller --size, or move parts over"
            )


if __name__ == "__main__":
    main()
