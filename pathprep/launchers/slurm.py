"""Slides as a Slurm array job: every element runs the same command on its part of the slides."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from pathprep.errors import PathprepError, UsageError
from pathprep.slides.own_names import plain_name
from pathprep.storage import atomic


def check(elements: int, arguments: str) -> None:
    """Refuse what would make a script that does not do what it says.

    Raises:
        UsageError: fewer than one element, or ``sbatch_args`` that sbatch cannot take in a script.
    """
    if elements < 1:
        raise UsageError("`array` must be at least 1")
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise UsageError(f"`sbatch_args` {arguments!r}: {error}") from None
    if "\n" in arguments or (words and not words[0].startswith("-")):
        raise UsageError(
            f"`sbatch_args` {arguments!r}: give sbatch's options on one line, such as "
            '"--partition=cpu --time=08:00:00"'
        )
    if any(word.startswith(("--array", "-a")) for word in words):
        raise UsageError("`sbatch_args`: the number of elements is given by `array`")


def script(command: list[str], root: Path, elements: int, workers: int, arguments: str = "") -> str:
    """The batch script.

    Args:
        command: what follows `pathprep`, with absolute paths, without launcher options.
        root: the dataset folder; logs go to its subfolder slurm/.
        elements: of the array. workers: slides at a time in each; CPUs that each asks for.
        arguments: more of sbatch's options, which take precedence.
    """
    logs = str(root.absolute() / "slurm").replace("%", "%%")
    lines = [
        f"--job-name={_title(root)}",
        f"--array=1-{elements}",
        f"--output={shlex.quote(logs + '/%x-%A_%a.log')}",
        "--open-mode=append",
        "--requeue",
        f"--cpus-per-task={workers}",
        *([arguments] if arguments else []),
    ]
    path = os.environ.get("PYTHONPATH")
    # -P: no modules from the folder that the job runs in, but of who runs a checkout from within it
    safe = [] if Path.cwd() == Path(__file__).parents[2] else ["-P"]
    parts = [
        shlex.join([sys.executable, *safe, "-m", "pathprep", *command]),
        f'--launcher local --part "${{SLURM_ARRAY_TASK_ID}}/{elements}"',
        f'--workers "${{SLURM_CPUS_PER_TASK:-{workers}}}"',
    ]
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {line}" for line in lines),
            "",
            "# An element that is stopped and queued again goes on where it was; so does the whole job",
            "# when it is submitted again. exec: Slurm's signals reach the command itself.",
            *([f"export PYTHONPATH={shlex.quote(path)}"] if path else []),
            "exec " + " ".join(parts),
            "",
        ]
    )


def write(values: str, command: str, root: Path, elements: int, workers: int, arguments: str = "") -> Path:
    """Write the script into the dataset folder, with the values of its command beside it.

    Args:
        values: YAML that the command takes by --config. command: its name, such as ``shard``.
        root, elements, workers, arguments: see ``script``.

    Returns:
        The script's absolute path.
    """
    path = root.absolute() / "slurm" / f"{_title(root)}.sh"
    config = path.with_suffix(".yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(config, values.encode())
    text = script([command, "--config", str(config)], root, elements, workers, arguments)
    atomic.write_bytes(path, text.encode())
    path.chmod(0o755)
    return path


def submit(path: Path) -> str:
    """Hand the script to sbatch; returns the job's id.

    Raises:
        PathprepError: there is no sbatch, or it refused.
    """
    by_hand = f"the script is {path}; submit it with `sbatch {shlex.quote(str(path))}`"
    if shutil.which("sbatch") is None:
        raise PathprepError(f"sbatch is not on this machine's PATH: {by_hand} where Slurm is")
    done = subprocess.run(["sbatch", "--parsable", str(path)], capture_output=True, text=True, check=False)
    # "id" or "id;cluster"
    job = done.stdout.strip().partition(";")[0]
    if done.returncode or not job:
        reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise PathprepError(f"sbatch refused ({reason}); {by_hand}")
    return job


def _title(root: Path) -> str:
    return f"pathprep-{plain_name(root.absolute().name)}"
