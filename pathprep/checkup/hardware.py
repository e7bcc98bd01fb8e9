"""The machine: GPUs, cores, memory, limits, and how fast a disk is."""

import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from pathprep.checkup.finding import Finding, tried

GPU, MACHINE = "GPU", "Machine"
GB = 1e9
FEW_FILES = 4096  # a loader keeps a file open for each shard that it reads
LITTLE_SHARED = 1.0 * GB  # Docker gives 64 MB unless asked
LITTLE_MEMORY = 2.0 * GB  # a worker that shards a slide takes about one
SLOW_DISK = 100e6  # bytes a second; tiles of a GPU's worth of training take several times that
DISK_SAMPLE = 128 << 20  # bytes that are written and read

_CUPY = """
import cupy
count = cupy.cuda.runtime.getDeviceCount()
for number in range(count):
    with cupy.cuda.Device(number):
        assert int(cupy.arange(5).sum()) == 10
version = cupy.cuda.runtime.runtimeGetVersion()
print(f"CUDA {version // 1000}.{version % 1000 // 10}, CuPy {cupy.__version__}, {count} usable")
"""


def gpus() -> list[Finding]:
    """The cards that the driver shows, and whether CuPy can use them."""
    means = "Trains, and makes tiles faster; `pathprep shard` also works without."
    if shutil.which("nvidia-smi") is None:
        fix = "With an NVIDIA GPU, install its driver; in a container: `docker run --gpus all`."
        return [Finding("NVIDIA driver", GPU, "warning", "no nvidia-smi", means, fix)]
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    cards = [line.split(", ") for line in done.stdout.splitlines() if line.count(", ") == 2]
    if done.returncode or not cards:
        said = " ".join((done.stderr or done.stdout).split())[:300] or "it names no GPU"
        fix = "Run nvidia-smi; a driver that was updated needs a restart of the machine."
        return [Finding("NVIDIA driver", GPU, "warning", f"does not work: {said}", means, fix)]
    findings = [Finding("NVIDIA driver", GPU, "ok", cards[0][1], means)]
    findings += [
        Finding(f"GPU {number}", GPU, "ok", f"{name}, {memory}", "Seen by the driver.")
        for number, (name, _, memory) in enumerate(cards)
    ]
    works, said = tried(_CUPY)
    use = "Computes on the cards: `pathprep shard --gpus all`."
    if works:
        return [*findings, Finding("CUDA", GPU, "ok", said, use)]
    fix = "Install the extra that fits the driver: cuda13, or cuda12 where nvidia-smi names CUDA 12."
    return [*findings, Finding("CUDA", GPU, "warning", f"cannot be used: {said}", use, fix)]


def cores() -> list[Finding]:
    """Cores that this process may use."""
    mine, every = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    state = f"{mine}" if mine == every else f"{mine} of {every}"
    return [
        Finding(
            "Cores",
            MACHINE,
            "ok",
            state,
            "So many slides at a time, unless `pathprep shard --workers` says otherwise.",
        )
    ]


def memory() -> list[Finding]:
    """Memory of the machine, or of the container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read("/sys/fs/cgroup/memory.max")
    if limit.isdecimal():
        total = min(total, int(limit))
    workers = len(os.sched_getaffinity(0))
    enough = total / workers >= LITTLE_MEMORY
    most = max(1, int(total / LITTLE_MEMORY))
    return [
        Finding(
            "Memory",
            MACHINE,
            "ok" if enough else "warning",
            f"{total / GB:.1f} GB, {total / workers / GB:.1f} GB a core",
            "Each slide in work takes 1 to 2 GB.",
            "" if enough else f"Use fewer workers: `pathprep shard --workers {most}`.",
        )
    ]


def shared_memory(place: Path = Path("/dev/shm")) -> list[Finding]:
    """Size of /dev/shm."""
    means = "Processes that load data hand it over there (`pathtrain`, DALI)."
    fix = "In a container: `docker run --shm-size=8g`; elsewhere: `mount -o remount,size=8G /dev/shm`."
    if not place.is_dir():
        return [Finding("Shared memory", MACHINE, "warning", f"no {place}", means, fix)]
    usage = shutil.disk_usage(place)
    enough = usage.total >= LITTLE_SHARED
    state = f"{usage.total / GB:.2g} GB, {usage.free / GB:.2g} GB free"
    return [
        Finding("Shared memory", MACHINE, "ok" if enough else "warning", state, means, "" if enough else fix)
    ]


def open_files() -> list[Finding]:
    """The limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= FEW_FILES
    state = f"{soft:,} (at most {hard:,})"
    means = "Loaders keep shards open; too few end in `Too many open files`."
    fix = "" if enough else f"ulimit -n {min(hard, 65_536) if hard > 0 else 65_536}"
    return [Finding("Open files", MACHINE, "ok" if enough else "warning", state, means, fix)]


def disk(folder: Path, size: int) -> list[Finding]:
    """How fast a folder's disk writes and reads, tried with a temporary file of ``size`` bytes."""
    name, means = f"Disk of {folder}", "Training reads tiles from it as fast as the GPU takes them."
    try:
        written, read = speeds(folder, size)
    except OSError as error:
        state = f"cannot be written ({error.strerror or error})"
        fix = "Make the folder, or give one that you may write to."
        return [Finding(name, MACHINE, "warning", state, means, fix)]
    free = shutil.disk_usage(folder).free
    enough = min(written, read) >= SLOW_DISK
    state = f"writes {written / 1e6:,.0f} MB/s, reads {read / 1e6:,.0f} MB/s, {free / GB:,.0f} GB free"
    fix = "" if enough else "Put the dataset on a local SSD or NVMe disk."
    return [Finding(name, MACHINE, "ok" if enough else "warning", state, means, fix)]


def speeds(folder: Path, size: int) -> tuple[float, float]:
    """Bytes a second of writing and of reading a file, which is removed.

    Raises:
        OSError: the folder cannot be written.
    """
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=folder) as file:
        start = time.perf_counter()
        for _ in range(max(1, size >> 20)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        written = time.perf_counter() - start
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # else memory is what is measured
        file.seek(0)
        start = time.perf_counter()
        while file.read(1 << 20):
            pass
        read = time.perf_counter() - start
    whole = max(1, size >> 20) << 20
    return whole / max(written, 1e-9), whole / max(read, 1e-9)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
