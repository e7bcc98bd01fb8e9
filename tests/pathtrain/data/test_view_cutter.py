"""Views cut on the CPU: the same whatever the threads and the neighbours, in memory that is used again."""

import gc

import numpy as np
import pytest
import torch
from torch import Tensor

from pathprep import stain
from pathprep.kernels import colour_reference, resize_reference
from pathtrain.data import view_numbers, view_params
from pathtrain.data.view_cutter import Cutter
from pathtrain.recipes.load import load

RECIPE = load("exaonepath1", ["views.turn=0.5"])
VIEWS = [view_params.views(RECIPE.views)[number] for number in (0, 1, 2, 3)]
SIZES = [41, 16, 16, 30]  # also no multiples of what the kernels do at once
COUNT = 9


def drawn() -> list[np.ndarray]:
    return list(view_numbers.packed(view_params.draw(RECIPE.views, VIEWS, np.arange(COUNT), 0)))


def tiles() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (30 + 5 * at, 70 - 6 * at, 3), np.uint8) for at in range(COUNT)]


def cut(cutter: Cutter, *given: list[np.ndarray]) -> list[Tensor]:
    cutter(*given)
    return cutter.take()


def cutter(threads: int = 1) -> Cutter:
    return Cutter(SIZES, [100.0, 120.0, 140.0], [50.0, 60.0, 70.0], threads, 240.0)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_and_neighbours_change_nothing(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathprep.kernels.threads_cpu.THREAD_PIXELS", 1)
    together = cut(cutter(threads), tiles(), drawn())
    for at, (tile, rows) in enumerate(zip(tiles(), drawn(), strict=True)):
        alone = cut(cutter(), [tile], [rows])
        assert all(torch.equal(one[0], other[at]) for one, other in zip(alone, together, strict=True))


def test_a_views_stain_is_changed_before_its_colour() -> None:
    """As by pathprep.stain.apply on the resized view; a view takes the matrix of its number."""
    matrices = list(
        stain.hed(4 * COUNT, stain.Jitter(0.3), np.random.default_rng(0).uniform(-1, 1, (4 * COUNT, 6)))
    )
    matrices = [np.stack(matrices[4 * at : 4 * at + 4]) for at in range(COUNT)]
    rows = drawn()
    for row in rows:
        row[:, view_numbers.COLOUR] = colour_reference.UNCHANGED
        row[:, [view_numbers.TRANSPOSE, view_numbers.SIGMA, view_numbers.SOLARISE]] = 0
    views = cut(Cutter(SIZES, [0.0] * 3, [1.0] * 3, 1, 240.0), tiles(), rows, matrices)
    for number, found in enumerate(views):
        for at, (tile, row) in enumerate(zip(tiles(), rows, strict=True)):
            box = row[number, view_numbers.START], row[number, view_numbers.END]
            plain = resize_reference.apply(tile, *box, SIZES[number])
            expected = stain.apply([plain], matrices[at][number][None], io=240.0)[0]
            different = np.abs(found[at].permute(1, 2, 0).numpy() - expected)
            assert (different > 0).mean() < 5e-3


def test_memory_is_used_again_only_when_no_view_is_left() -> None:
    made = cutter()
    first = cut(made, tiles(), drawn())
    place, kept = first[0].data_ptr(), first[3]
    copy = kept.clone()
    del first
    second = cut(made, tiles()[::-1], drawn())
    assert second[0].data_ptr() != place
    assert torch.equal(kept, copy)
    del kept
    gc.collect()
    assert cut(made, tiles(), drawn())[0].data_ptr() == place
