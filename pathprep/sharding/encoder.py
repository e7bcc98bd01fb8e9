"""Where a run on GPUs encodes its JPEGs: on its cards or on the cores, whichever is faster.

The two have other bytes, so a dataset has one of them, in dataset.json: it is measured when a dataset is
begun, and whoever goes on with it, on whatever machine, takes what was found then.
"""

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from pathprep import interpreter
from pathprep.dataset import info
from pathprep.errors import UsageError
from pathprep.params.shard import Encoder, ShardParams
from pathprep.storage.json_files import read_json

log = logging.getLogger(__name__)

# Times as fast as the cards that the cores must be: they also read and decode the slides, which takes as long
LEAD = 2.0


def settled(params: ShardParams, root: Path, cards: int | None) -> ShardParams:
    """The parameters with ``auto`` resolved.

    Args:
        root: the dataset folder.
        cards: that this process's workers use; 0: they are on other machines, where nothing can be measured,
            and the cards encode; None: nothing is to be made, and what no dataset tells stays open.

    Raises:
        UsageError: the measurement failed.
    """
    if params.device == "cpu" or params.encoder != "auto":
        return params
    values = (read_json(root / info.NAME) or {}).get("params")
    if isinstance(values, dict) and values.get("device") == "cuda":
        return replace(params, encoder="cpu" if values.get("encoder") == "cpu" else "gpu")
    if cards is None:
        return params
    if not cards:
        log.info("JPEGs are encoded on the GPUs; `encoder` cpu takes the cores.")
        return replace(params, encoder="gpu")
    return replace(params, encoder=faster(params, cards))


def faster(params: ShardParams, cards: int) -> Encoder:
    """Measure both on this machine, some seconds.

    Raises:
        UsageError: the measurement failed.
    """
    command = [sys.executable, "-m", "pathprep.tiles.engines.encoders"]
    command += [str(params.tile), str(params.quality), params.subsampling]
    done = subprocess.run(command, env=interpreter.environment(), capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        cpu, gpu = float(found["cpu"]), cards * float(found["gpu"])
    except (IndexError, ValueError, KeyError, TypeError):
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UsageError(
            f"measuring the encoders failed with exit code {done.returncode} ({said}); say `encoder` gpu "
            "or cpu"
        ) from None
    chosen: Encoder = "cpu" if cpu >= LEAD * gpu else "gpu"
    where = "the cores" if chosen == "cpu" else "the GPUs"
    log.info("JPEGs are encoded on %s: cores %s, GPUs %s tiles/s.", where, f"{cpu:,.0f}", f"{gpu:,.0f}")
    return chosen
