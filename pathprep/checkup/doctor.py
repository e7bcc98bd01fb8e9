"""Looks at whether this machine and its environment can do what the commands ask of them."""

from functools import partial
from pathlib import Path

from pathprep.checkup import codecs, hardware, packages
from pathprep.checkup.finding import Finding, guarded


def doctor(folder: Path | str = ".") -> list[Finding]:
    """Look at Python, packages, codecs, GPU, cores, memory, limits, and the disk of a folder.

    Takes some seconds. What is broken becomes a finding; libraries are tried in processes of their own, and
    torch is not imported.

    Args:
        folder: on the disk that datasets are to lie on; a file of 128 MB is written there and removed.

    Returns:
        Findings, those of a group together. Status ``missing``: `pathprep shard` cannot work without it.
    """
    looks = (
        ("Python", packages.GROUP, packages.python),
        ("Packages", packages.GROUP, packages.packages),
        ("Codecs", codecs.GROUP, codecs.codecs),
        ("GPU", hardware.GPU, hardware.gpus),
        ("Cores", hardware.MACHINE, hardware.cores),
        ("Memory", hardware.MACHINE, hardware.memory),
        ("Shared memory", hardware.MACHINE, hardware.shared_memory),
        ("Open files", hardware.MACHINE, hardware.open_files),
        ("Disk", hardware.MACHINE, partial(hardware.disk, Path(folder), hardware.DISK_SAMPLE)),
    )
    return [finding for look in looks for finding in guarded(*look)]
