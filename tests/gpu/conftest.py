"""What has to hold on a card: each test runs there with ``-m gpu``, and on the CPU as a rehearsal otherwise.

On the CPU little is shown that other tests do not show; but what is written here runs, and does not fail at
its first contact with a card for a name that is wrong.
"""

from pathlib import Path

import pytest
import torch
from helpers.toys import noise, write_dataset

CPU = torch.device("cpu")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The card; the CPU in a rehearsal."""
    return torch.device(request.param, 0) if request.param == "cuda" else CPU


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four slides of two colours: 80 tiles of 64 px and fewer."""
    slides = {
        "a": noise(80, 64, seed=1),
        "b": noise(9, 48, (90, 60, 140), seed=2),
        "c": noise(12, 64, seed=3),
        "d": noise(7, 64, (90, 60, 140), seed=4),
    }
    return write_dataset(tmp_path_factory.mktemp("gpu") / "dataset", slides)
