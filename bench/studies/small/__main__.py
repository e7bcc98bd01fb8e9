"""What small encoders show, by one command:

    python bench/studies/small --data ../shared/data --work study [--parts choice stain] [--json]

Parts are made in their order; `choice` first, as test groups are refused before it. What is in --work is
not made again, so an interrupted study goes on where it was. --json writes
bench/results/small-<machine>.json and the tables beside it (page.py).
"""

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # this package
sys.path.append(str(Path(__file__).parents[2]))  # bench/machine.py

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from machine import add_json, save

from pathprep.errors import PathprepError
from pathprep.storage import atomic
from small import page
from small.core.config import HERE, PARTS, Study, opened


def main() -> None:
    """Make the parts that are asked for, and write what all results say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("small-study"))
    parser.add_argument("--config", type=Path, default=HERE / "study.yaml")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    add_json(parser)
    options = parser.parse_args()
    try:
        study = opened(options.config, options.data.resolve(), options.work.resolve())
        torch.set_num_threads(study.common.threads * study.common.at_once)
        for name in [part for part in PARTS if part in options.parts]:
            made(study, name)
    except PathprepError as error:
        sys.exit(f"error: {error}")
    results = {name: found for name in PARTS if (found := result(study, name)) is not None}
    print(page.markdown(results))
    save(options.json, "small", results)
    if options.json is not None:
        page.write(results)


def made(study: Study, name: str) -> None:
    """Run a part and keep its result."""
    part = importlib.import_module(f"small.{name}")
    start = time.monotonic()
    print(f"--- {name}", file=sys.stderr, flush=True)
    found = part.run(study)
    found["seconds"] = round(time.monotonic() - start)  # less what was there before
    where = study.work / "results" / f"{name}.json"
    where.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(where, json.dumps(found, indent=1).encode())
    atomic.write_bytes(where.with_suffix(".md"), part.markdown(found).encode())


def result(study: Study, name: str) -> dict[str, object] | None:
    """A part's result, if it was made."""
    where = study.work / "results" / f"{name}.json"
    return json.loads(where.read_text()) if where.is_file() else None


if __name__ == "__main__":
    main()
