"""Processes that share a machine."""

import os

import pytest

from pathtrain.distributed.workers import cores


@pytest.mark.parametrize(("here", "expected"), [(None, 12), ("5", 2), ("1", 12), ("40", 1), ("", 12)])
def test_each_process_has_its_part_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, here: str | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if here is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    assert cores() == expected
