"""A dataset to mix."""

from pathlib import Path

import pytest
from helpers.mixing import write


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("fit"), {"a": 57, "b-1": 31, "empty": 0, "c_c": 12}, "fit")
