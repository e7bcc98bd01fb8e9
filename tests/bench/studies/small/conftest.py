"""The study's package, which lies beside the commands that it is run by."""

import sys
from pathlib import Path

BENCH = Path(__file__).parents[4] / "bench"
sys.path += [str(BENCH / "studies"), str(BENCH)]
