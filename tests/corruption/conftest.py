"""One of everything, made once."""

from pathlib import Path

import pytest
from corruption import gallery as everything


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one of everything; not to be changed."""
    return everything.make(tmp_path_factory.mktemp("gallery"))
