"""Versions of Python and of packages, as their metadata tell them: nothing is imported."""

import platform
import re
import sys
from importlib import metadata

from pathprep.checkup.finding import Finding, Status

GROUP = "Packages"
OLDEST_PYTHON = (3, 11)
# Packages of extras: name in words, how the package's name begins, status if absent, what it means, the fix
_CUDA = "pip install 'pathprep[cuda13]', or [cuda12] where nvidia-smi names CUDA 12; both also without a GPU"
OPTIONAL: tuple[tuple[str, str, Status, str, str], ...] = (
    (
        "cuCIM",
        "cucim",
        "warning",
        "Reads SVS with JPEG 2000; OpenSlide does without it, slower.",
        _CUDA,
    ),
    ("CuPy", "cupy", "warning", "Makes tiles on the GPU: `pathprep shard --gpus all`.", _CUDA),
    ("DALI", "nvidia-dali", "warning", "Loads tiles for `pathtrain`.", _CUDA),
    (
        "ONNX Runtime",
        "onnxruntime",
        "warning",
        "Finds tissue with a model: `pathprep shard --tissue-model`.",
        "pip install 'pathprep[onnx]'",
    ),
    ("PyTorch", "torch", "warning", "Trains and embeds (`pathtrain`).", "pip install 'pathprep[train]'"),
    (
        "Ray",
        "ray",
        "warning",
        "Shards on a cluster: `pathprep shard --launcher ray`.",
        "pip install 'pathprep[ray]'",
    ),
    (
        "s3fs",
        "s3fs",
        "warning",
        "Datasets on S3: `pathprep shard --out s3://...`.",
        "pip install 'pathprep[s3]'",
    ),
)


def python() -> list[Finding]:
    """The interpreter's version."""
    enough = sys.version_info >= OLDEST_PYTHON
    return [
        Finding(
            "Python",
            GROUP,
            "ok" if enough else "missing",
            f"{platform.python_version()} on {platform.system()} {platform.machine()}",
            "Runs the commands; 3.11 or later.",
            "" if enough else "Make an environment with Python 3.11 or later.",
        )
    ]


def packages(distribution: str = "pathprep") -> list[Finding]:
    """Every package that the project needs, with its version, then those of its extras."""
    installed = {_plain(each.name): each.version for each in metadata.distributions() if each.name}
    try:
        requirements = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        requirements = []
    needed = [text for text in requirements if "extra ==" not in text]
    findings = [
        _needed(text, installed)
        for text in needed
        if not any(_begins(text, prefix[1]) for prefix in OPTIONAL)
    ]
    if not needed:
        means = "Not known which versions of other packages are needed."
        findings.append(Finding(distribution, GROUP, "warning", "not installed here", means, "pip install ."))
    return findings + [_optional(each, installed) for each in OPTIONAL]


def _needed(requirement: str, installed: dict[str, str]) -> Finding:
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    bound = re.search(r">=\s*([0-9.]+)", requirement)
    least, version = bound[1] if bound else "0", installed.get(_plain(name))
    means = f"Needed, {least} or later."
    fix = f"pip install '{name}>={least}'"
    if version is None:
        return Finding(name, GROUP, "missing", "not installed", means, fix)
    if numbers(version) < numbers(least):
        return Finding(name, GROUP, "missing", version, means, fix)
    return Finding(name, GROUP, "ok", version, means)


def _optional(known: tuple[str, str, Status, str, str], installed: dict[str, str]) -> Finding:
    name, prefix, status, means, fix = known
    there = sorted(each for each in installed if _begins(each, prefix))
    if not there:
        return Finding(name, GROUP, status, "not installed", means, fix)
    return Finding(name, GROUP, "ok", ", ".join(f"{each} {installed[each]}" for each in there), means)


def _begins(requirement: str, prefix: str) -> bool:
    """Whether a package is the one of that name, or its build for a CUDA version."""
    return re.match(rf"{re.escape(prefix)}(-cu(da)?\d+x?)?(?![\w-])", _plain(requirement)) is not None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower() if re.fullmatch(r"[\w.-]+", name) else name.lower()


def numbers(version: str) -> tuple[int, ...]:
    """A version to compare: ``2.10.0+cu130`` -> (2, 10, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[+a-z]", version, maxsplit=1)[0]))
