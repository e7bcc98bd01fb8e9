"""Work that a thread does some steps before it is asked for."""

import threading

import pytest

from pathtrain.data.ahead import KEPT, Ahead


def test_later_steps_are_done_before_they_are_asked_for() -> None:
    done: list[tuple[int, int]] = []
    others = set(threading.enumerate())  # of loaders that other tests have left
    third = threading.Event()

    def work(step: int) -> int:
        done.append((step, threading.get_ident()))
        if step == 7:
            third.set()
        return step * step

    ahead = Ahead(work, 2)
    assert ahead.at(5) == 25
    assert third.wait(10)
    assert [step for step, _ in done] == [5, 6, 7]
    assert {thread for _, thread in done}.isdisjoint({threading.get_ident()})
    assert [ahead.at(step) for step in (6, 5, 7)] == [36, 25, 49]
    assert [step for step, _ in done].count(5) == 1
    assert ahead.at(6 + KEPT) == (6 + KEPT) ** 2
    assert ahead.at(5) == 25  # forgotten, and done again
    assert [step for step, _ in done].count(5) == 2
    ahead.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead") and t not in others]


def test_an_error_is_the_callers() -> None:
    ahead = Ahead(lambda step: 1 // step, 1)
    with pytest.raises(ZeroDivisionError):
        ahead.at(0)
    assert ahead.at(1) == 1
    ahead.close()
