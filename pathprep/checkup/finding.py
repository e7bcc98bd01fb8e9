"""What the doctor says of one thing."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pathprep import interpreter
from pathprep.errors import why

Status = Literal["ok", "warning", "missing"]
PATIENCE_S = 120.0  # a package on a cold network disk takes its time to load


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of the thing. group: heading that it stands under.
        status: ``missing`` is what the commands cannot do without; ``warning`` costs speed or a feature.
        state: how it is, such as a version. means: what follows from it. fix: one line; "" if all is well.
    """

    name: str
    group: str
    status: Status
    state: str
    means: str
    fix: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


def guarded(name: str, group: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """What ``look`` finds; if it fails itself, that is the finding."""
    try:
        return look()
    except Exception as error:  # nothing that is broken may keep the rest from being looked at
        state = f"cannot be looked at ({type(error).__name__}: {why(error)})"
        return [Finding(name, group, "warning", state, "Not known whether it works.", "See the error.")]


def tried(code: str, *, patience: float = PATIENCE_S) -> tuple[bool, str]:
    """Run a few lines in a process of their own, so that what crashes there does not crash here.

    Returns:
        Whether they ran through, and the last line that they printed, or that the error ended with.
    """
    command = [sys.executable, "-W", "ignore", "-c", code]
    try:
        done = subprocess.run(
            command,
            env=interpreter.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        return False, f"nothing for {patience:.0f} s"
    if done.returncode == 0:
        return True, _last(done.stdout)
    return False, _last(done.stderr) or f"ended with exit code {done.returncode}"


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
