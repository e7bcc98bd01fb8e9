"""The decoder and its loss against a plain reference in float64, and under autocast."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pathtrain.data.segmented.truth import IGNORED
from pathtrain.evaluate.pixel_level.decoder import Decoder, dice_loss, enlarged_convolution


def plain(decoder: Decoder, images: torch.Tensor, tokens: torch.Tensor | None) -> torch.Tensor:
    """The published layers one by one, with the decoder's weights; batch norm with the batch's statistics."""

    def block(x: torch.Tensor, name: str) -> torch.Tensor:
        state = decoder.state_dict()
        x = functional.conv2d(x, state[f"{name}.0.weight"], state[f"{name}.0.bias"], padding=1)
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        scale, shift = state[f"{name}.1.weight"][:, None, None], state[f"{name}.1.bias"][:, None, None]
        return ((x - mean) / torch.sqrt(var + 1e-5) * scale + shift).clamp(min=0)

    x = images
    if tokens is not None:
        side = int(tokens.shape[1] ** 0.5)
        grid = tokens.reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)
        grid = grid.repeat_interleave(2, 2).repeat_interleave(2, 3)
        grid = block(grid, "tokens.1")
        # bilinear by hand: samples at (i + .5) * in / out - .5, edges repeated
        size, cells = images.shape[-1], 2 * side
        at = ((torch.arange(size, dtype=torch.float64) + 0.5) * cells / size - 0.5).clamp(0, cells - 1)
        low, part = at.floor().long(), at - at.floor()
        high = (low + 1).clamp(max=cells - 1)
        rows = grid[:, :, low] * (1 - part)[:, None] + grid[:, :, high] * part[:, None]
        x = torch.cat([rows[..., low] * (1 - part) + rows[..., high] * part, images], 1)
    x = block(block(x, "image.0"), "image.1")
    state = decoder.state_dict()
    return functional.conv2d(x, state["classes.weight"], state["classes.bias"])


@pytest.mark.parametrize("dim", [12, None])
def test_the_decoder_is_the_published_one(dim: int | None) -> None:
    torch.manual_seed(0)
    decoder = Decoder(dim, 4).double()
    images = torch.randn(2, 3, 28, 28, dtype=torch.float64)
    tokens = None if dim is None else torch.randn(2, 4, dim, dtype=torch.float64)
    found = decoder(images, tokens)
    assert found.shape == (2, 4, 28, 28)
    torch.testing.assert_close(found, plain(decoder, images, tokens), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("cells", "size"), [(28, 224), (14, 224), (8, 50), (2, 5), (1, 4), (6, 3)])
def test_the_convolution_of_an_enlarged_grid_is_that_of_torch(cells: int, size: int) -> None:
    torch.manual_seed(0)
    grid = torch.randn(2, 5, cells, cells, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 5, 3, 3, dtype=torch.float64, requires_grad=True)
    expected = functional.conv2d(
        functional.interpolate(grid, (size, size), mode="bilinear"), weight, padding=1
    )
    found = enlarged_convolution(grid, weight, size)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    ours = torch.autograd.grad(found.square().sum(), (grid, weight))
    theirs = torch.autograd.grad(expected.square().sum(), (grid, weight))
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)


def test_its_channels_are_the_published_ones() -> None:
    shapes = {name: tuple(each.shape) for name, each in Decoder(384, 5).named_parameters() if each.ndim == 4}
    assert shapes == {
        "tokens.1.0.weight": (64, 384, 3, 3),
        "image.0.0.weight": (32, 67, 3, 3),
        "image.1.0.weight": (32, 32, 3, 3),
        "classes.weight": (5, 32, 1, 1),
    }
    assert sum(each.numel() for each in Decoder(384, 5).parameters()) == 250_245


def test_a_token_is_where_its_patch_is() -> None:
    """Row by row: a change of token 1 moves the upper right of the picture most."""
    torch.manual_seed(0)
    decoder = Decoder(8, 3).eval()
    images, tokens = torch.zeros(1, 3, 32, 32), torch.zeros(1, 16, 8)
    other = tokens.clone()
    other[0, 3] = 5
    moved = (decoder(images, tokens) - decoder(images, other)).abs().sum(1)[0]
    assert moved[:8, 24:].mean() > 10 * moved[16:, :16].mean()


def reference(logits: np.ndarray, classes: np.ndarray) -> float:
    """The loss pixel by pixel in float64."""
    count = logits.shape[1]
    both, shares, goals = (np.zeros(count) for _ in range(3))
    for b, row, column in np.ndindex(classes.shape):
        z, goal = logits[b, :, row, column].astype(np.float64), classes[b, row, column]
        if goal == IGNORED:
            z, goal = np.zeros(count), 0
        p = np.exp(z - z.max())
        p /= p.sum()
        shares += p
        both[goal] += p[goal]
        goals[goal] += 1
    return float(np.mean(1 - (2 * both + 1e-5) / (shares + goals + 1e-5)))


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("kind", ["float64", "float32", "autocast"])
def test_the_loss_is_the_published_one(kind: str, ignored: bool) -> None:
    rng = np.random.default_rng(0)
    logits, classes = rng.normal(0, 3, (2, 4, 6, 7)), rng.integers(0, 3, (2, 6, 7)).astype(np.uint8)
    if ignored:
        classes[0, :2] = IGNORED
    expected = reference(logits, classes)
    given = torch.from_numpy(logits).to(torch.float64 if kind == "float64" else torch.float32)
    given.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
        found = dice_loss(given, torch.from_numpy(classes))
    assert found.dtype == given.dtype
    assert abs(float(found.detach()) - expected) < (1e-12 if kind == "float64" else 1e-6)
    found.backward()
    if ignored:
        assert given.grad is not None
        assert float(given.grad[0, :, :2].abs().max()) == 0


def test_the_decoder_runs_under_autocast_and_its_loss_stays_in_float32() -> None:
    torch.manual_seed(0)
    decoder, images, tokens = Decoder(8, 3), torch.randn(2, 3, 32, 32), torch.randn(2, 4, 8)
    classes = torch.randint(0, 3, (2, 32, 32), dtype=torch.uint8)
    exact = dice_loss(decoder(images, tokens), classes)
    with torch.autocast("cpu", torch.bfloat16):
        logits = decoder(images, tokens)
        loss = dice_loss(logits, classes)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert abs(float(loss.detach()) - float(exact.detach())) < 0.01
