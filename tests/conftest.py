"""What all tests share: the real data where it is present, small slides, and datasets made of them."""

import os
import sys
import tempfile
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

from helpers import cards

# Before torch and CUDA are loaded. Threads must not spin while other processes of the tests want the cores
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.update(cards.visible(sys.argv[1:], os.environ))

import pytest
from helpers.slides import tissue, write_tiff

from pathprep.slides.slide import Slide

# cuCIM first: see pathprep/readers/cucim.py. The commands never load both; a test process does.
# (A machine that measures a card may have none: bench/gpu/pack.py.)
if find_spec("cucim") is not None:
    with tempfile.TemporaryDirectory() as _folder:
        Slide(write_tiff(Path(_folder) / "first.tif", tissue(64, 64), tile=64), "cucim")

# The real slides are not part of the project: beside the checkout, or where the variable says
DATA = Path(os.environ.get("PATHPREP_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked gpu are skipped where there is none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no NVIDIA GPU, or hidden from tests: choose these with -m gpu")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real slides and tiles."""
    if not DATA.is_dir():
        pytest.skip(f"real slides are not at {DATA}; set PATHPREP_TEST_DATA to their folder")
    return DATA


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Captured output in letters that pytest-xdist can send: names of files may hold any bytes."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
