"""Slides on a card: their pixels while it works, gradients through all of their tiles, features of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from gpu.conftest import CPU
from helpers.toys import write_run
from torch import Tensor, nn

from pathprep.dataset.reader import Dataset
from pathtrain.data.slide_stream import Request, SlideIndex, TileStream
from pathtrain.data.whole_tiles import open_tiles
from pathtrain.features.encode import encode
from pathtrain.methods.gradient_cache import cached_loss
from pathtrain.params.encoding import How
from pathtrain.runs.opening import load

GREY_LEVELS = 3  # a card's JPEG decoder rounds otherwise


def busy(device: torch.device) -> None:
    """Work of some time in the default queue, as training has."""
    if device.type == "cuda":
        large = torch.zeros(4096, 4096, device=device)
        for _ in range(20):
            large = large @ large


@pytest.mark.parametrize("on_device", [False, True])
def test_pixels_of_slides_are_theirs_whatever_else_the_card_does(
    dataset: Path, device: torch.device, on_device: bool
) -> None:
    index = SlideIndex(Dataset(dataset))
    names = ["a", "c", "a", "d", "a"]  # a has more than a batch of DALI's
    layouts = [index.slide(name, 4) for name in names]

    def requests() -> Iterator[Request]:
        for layout in layouts:
            yield Request.of([layout], np.zeros(1, np.int64))

    device_id = device.index if device.type == "cuda" else None
    stream = TileStream(index, requests, 64, None, device_id, on_device)
    kept: list[Tensor] = []
    for pixels in stream:
        assert pixels.is_cuda == (on_device and device.type == "cuda")
        assert pixels.is_pinned() == (not on_device and device.type == "cuda")
        busy(device)
        used = pixels.to(device, non_blocking=True).float() * 1.0
        del pixels  # its memory may be taken for the next
        kept.append(used)
    assert len(kept) == len(layouts)
    for used, layout in zip(kept, layouts, strict=True):
        stored = [
            simplejpeg.decode_jpeg(index.source.read(int(tile)), colorspace="RGB") for tile in layout.tiles
        ]
        assert abs(used[:-1].cpu().numpy() - np.stack(stored)).mean() < GREY_LEVELS
        assert (used[-1] == 255).all(), "the background"


def test_gradients_through_chunks_are_those_of_one_graph(device: torch.device) -> None:
    """In float32, with dropout, whose random numbers are drawn again."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.GELU(), nn.Dropout(0.3), nn.Linear(32, 8))
    network.to(device).train()
    pixels = torch.rand(37, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    chunk = 10

    def loss_of(vectors: Tensor) -> Tensor:
        return (vectors.to(device) * torch.arange(8.0, device=device)).square().mean()

    def gradients(loss: Tensor) -> list[Tensor]:
        network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    torch.manual_seed(2)
    plain = loss_of(torch.cat([network(part.to(device)) for part in pixels.split(chunk)]))
    expected = gradients(plain)
    held = pixels.pin_memory() if device.type == "cuda" else pixels
    torch.manual_seed(2)
    cached = cached_loss(network, held, loss_of, chunk, device)
    assert cached.item() == pytest.approx(plain.item(), rel=1e-5)
    for one, other in zip(gradients(cached), expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("precision", "bound"), [("float32", 0.01), ("bfloat16", 0.05)])
def test_features_are_those_of_the_cpu(
    dataset: Path, device: torch.device, tmp_path: Path, precision: str, bound: float
) -> None:
    """Many small batches, so that several are in flight; float32 has TF32's 10 bits on a card."""
    model, tiles = load(write_run(tmp_path / "run", dataset)), open_tiles(dataset)
    order = np.arange(len(tiles))[::-1].copy()
    (expected,), colours = encode([model], tiles, order, How(device="cpu"))
    finished: list[int] = []
    how = How(batch=4, device="cuda" if device.type == "cuda" else "cpu", precision=precision)  # type: ignore[arg-type]
    (found,), seen = encode([model], tiles, order, how, finished.append)
    assert sum(finished) == len(order)
    assert np.abs(found - expected).max() < bound * np.abs(expected).max()
    np.testing.assert_allclose(seen, colours, atol=1e-5)
    model.to(CPU)
