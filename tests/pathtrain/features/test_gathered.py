"""A card's images are copied beside its work, and its results fetched some batches later."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pathtrain.data.whole_tiles import open_tiles
from pathtrain.errors import ModelError
from pathtrain.features import encode as encoding
from pathtrain.features.gathered import Gathered
from pathtrain.params.encoding import How
from pathtrain.runs.model import finite
from pathtrain.runs.opening import load


class Event:
    """Of a card that is never done before somebody waits."""

    waited: list[int]
    made = 0

    def __init__(self) -> None:
        self.number, Event.made = Event.made, Event.made + 1

    def record(self, stream: object) -> None:
        assert stream == "the queue of cuda:1"

    def synchronize(self) -> None:
        Event.waited.append(self.number)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A card whose tensors are the CPU's."""
    Event.waited, Event.made = [], 0
    empty = torch.empty

    def unpinned(*shape: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        return empty(*shape, **options)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the queue of {device}")
    monkeypatch.setattr(torch, "empty", unpinned)
    return torch.device("cuda", 1)


def test_a_batch_is_fetched_when_others_have_been_queued(card: torch.device) -> None:
    out = np.full((12, 2), np.nan, np.float32)
    gathered, done = Gathered(card, behind=2), list[int]()
    for number in range(6):
        values = torch.full((2, 2), float(number), dtype=torch.bfloat16)
        part = slice(2 * number, 2 * number + 2)
        gathered.add([(values, out[part])], lambda number=number: done.append(number))  # type: ignore[misc]
        values.fill_(-1)  # its memory is used again
        assert done == Event.waited == list(range(max(0, number - 1)))
        assert np.isnan(out[2 * len(done) :]).all(), "what is in flight is not written yet"
    gathered.finish()
    assert done == Event.waited == list(range(6))
    assert (out == np.repeat(np.arange(6), 2)[:, None]).all()


def test_the_cpu_has_nothing_in_flight() -> None:
    out, done = np.zeros((1, 2), np.float32), list[bool]()
    Gathered(torch.device("cpu")).add([(torch.ones(1, 2), out)], lambda: done.append(True))
    assert done == [True]
    assert (out == 1).all()


def test_what_is_not_finite_is_found_when_it_arrives(card: torch.device) -> None:
    out = np.zeros((1, 1), np.float32)
    gathered = Gathered(card)
    gathered.add([(torch.tensor([[torch.inf]]), out)], lambda: finite(out) is None)
    with pytest.raises(ModelError, match="not finite"):
        gathered.finish()


def test_images_are_copied_in_the_side_stream_and_given_to_the_networks(
    dataset: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    class Side:
        def __init__(self, device: torch.device) -> None:
            assert device.type == "cpu"

        @contextmanager
        def queue(self) -> Iterator[None]:
            told.append("queue")
            yield

        def give(self, tensor: torch.Tensor) -> torch.Tensor:
            told.append(f"give {len(tensor)}")
            return tensor

    monkeypatch.setattr(encoding, "SideStream", Side)
    encoding.encode([load(run)], open_tiles(dataset), np.arange(13), How(batch=5))
    assert told == ["queue", "give 5", "queue", "give 5", "queue", "give 3"]


def test_only_a_card_multiplies_in_tf32_and_only_here() -> None:
    with encoding.tensor_cores(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(KeyError), encoding.tensor_cores(torch.device("cuda")):
        assert torch.get_float32_matmul_precision() == "high"
        raise KeyError
    assert torch.get_float32_matmul_precision() == "highest"
