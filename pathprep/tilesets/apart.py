"""Whether an image kills who decodes it: asked of a process of its own, for the few that are suspected.

A decoder that fails in C takes its process with it, and says nothing. A worker of several threads leaves
behind which images it was at; each of them is decoded here once more, so that only the guilty one is lost.
"""

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from pathprep import interpreter
from pathprep.tilesets.items import Item
from pathprep.tilesets.reading import Images

# Signals by which others end a process: the system when memory is short, Slurm, the user
_ENDED = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
START_S = 60.0  # of such a process, beside the time for its image: many wait for their libraries at once


def kills(root: Path, item: Item, patience: float, crop: bool = False) -> str:
    """How a process that reads an image dies, as a sentence about it; "" if it does not.

    Args:
        root: the set's folder. patience: seconds for the image. crop: see images.decode.
    """
    asked = [str(root), json.dumps(asdict(item)), *(["crop"] if crop else [])]
    command = [sys.executable, "-m", "pathprep.tilesets.apart", *asked]
    try:
        done = subprocess.run(
            command,
            env=interpreter.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START_S + patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"its decoder does not come to an end within {patience:g} s"
    if done.returncode >= 0 or -done.returncode in _ENDED:
        return ""
    return f"its decoder crashes ({signal.Signals(-done.returncode).name})"


def _read(root: str, item: str, crop: str = "") -> None:
    given = Item(**json.loads(item))
    with Images(Path(root), in_rows=given.row is not None, crop=bool(crop)) as images:
        try:
            images.read(given)
        except Exception:  # the shard's own reader says it
            return


if __name__ == "__main__":
    _read(*sys.argv[1:])
