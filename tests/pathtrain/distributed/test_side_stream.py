"""Work beside the network's: on the CPU it is done at once, and CUDA is left alone."""

import pytest
import torch

from pathtrain.distributed.side_stream import SideStream


def test_on_the_cpu_nothing_of_cuda_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was told to use the CPU may share a machine whose cards are others'."""

    def begun(*_: object) -> None:
        raise AssertionError("CUDA is begun")

    monkeypatch.setattr(torch.cuda, "current_device", begun)
    monkeypatch.setattr(torch.cuda, "_lazy_init", begun)
    monkeypatch.setattr(torch.cuda, "stream", begun)
    side = SideStream(torch.device("cpu"))
    with side.queue():
        made = torch.ones(3)
    side.wait()
    assert side.give(made) is made
