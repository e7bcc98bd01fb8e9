"""Slides and datasets for the measurements on a card, drawn once and kept.

    python bench/gpu/draw.py FOLDER [--size 12288] [--slides 16]

FOLDER/slides has so many slides (one drawing under several names); FOLDER/256px and FOLDER/512px are
datasets of one of them, with stain fits.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

PATHPREP = [sys.executable, "-m", "pathprep"]


def main() -> None:
    """Draw what is not there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=12288, help="side of a slide, pixels")
    parser.add_argument("--slides", type=int, default=16)
    options = parser.parse_args()
    drawn, slides = options.folder / "drawn", options.folder / "slides"
    if not list(drawn.glob("*.tif")):
        command = [*PATHPREP, "synth", str(drawn), "--slides", "1", "--size", str(options.size)]
        subprocess.run(command, check=True)
    slides.mkdir(exist_ok=True)
    for number in range(options.slides):
        if not (slides / f"{number}.tif").exists():
            shutil.copy(next(drawn.glob("*.tif")), slides / f"{number}.tif")
    for mpp, side in ((0.5, 256), (1.0, 512)):
        out = options.folder / f"{side}px"
        if out.exists():
            continue
        command = [*PATHPREP, "shard", str(next(drawn.glob("*.tif"))), "--out", str(out)]
        command += ["--mpp", str(mpp), "--tile", "256", "--native", "--stain", "fit"]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
