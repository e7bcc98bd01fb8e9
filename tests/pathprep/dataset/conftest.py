"""Datasets whose tiles come from a mapped index, or from their tables."""

import pytest

from pathprep.dataset import index_cache


@pytest.fixture(params=["mapped", "in memory"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to hold the arrays."""
    monkeypatch.setattr(index_cache, "MAPPED_FROM", 1 if request.param == "mapped" else 1000)
    return str(request.param)


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a slide makes an index."""
    monkeypatch.setattr(index_cache, "MAPPED_FROM", 1)
