"""What all tests share: the real data where it is present, small slides, and datasets made of them."""

import contextlib
import os
from pathlib import Path

import pytest

# cuCIM first: loaded after torch, on a machine without a GPU, it never returns. The commands never load
# both; a test process may.
with contextlib.suppress(ImportError):
    import cucim  # noqa: F401

# The real slides are not part of the project: beside the checkout, or where the variable says
DATA = Path(os.environ.get("PATHPREP_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real slides and tiles."""
    if not DATA.is_dir():
        pytest.skip(f"real slides are not at {DATA}; set PATHPREP_TEST_DATA to their folder")
    return DATA
