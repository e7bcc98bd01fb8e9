"""Fixtures of tile sets."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from pathprep.launchers import local
from pathprep.launchers.base import Outcome, Progress


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are made in this process: quicker, and all that differs is tested with real ones below."""

    def inline(tasks: Sequence[Any], *_: object) -> Iterator[Outcome]:
        for number, task in enumerate(tasks):
            yield Outcome(number, task.make(Progress()))

    monkeypatch.setattr(local, "run", inline)
