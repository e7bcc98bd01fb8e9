"""Batches from slides: the same from any step, by any number of ranks and readers; bad ones dropped."""

from concurrent.futures import CancelledError, Future
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import deadly_slides
from helpers.surveyed import ONLINE, survey
from helpers.toys import TINY

from pathprep.kernels.tiling_reference import in_hsv_box
from pathtrain.data.loader import Batch, BatchOptions, Loader
from pathtrain.data.online import pool as pools
from pathtrain.data.online import reader as readers
from pathtrain.data.online.dropped import AGREED, Dropped, Record
from pathtrain.data.online.pool import Answer, Failed
from pathtrain.data.online.survey_data import SurveyData
from pathtrain.data.online.worker import Job
from pathtrain.distributed.ranks import Ranks
from pathtrain.errors import CheckpointError, TrainError
from pathtrain.recipes.load import load

PLAIN = ("views.jitter.p=0", "views.greyscale=0", "views.globals.blur=[0]", "views.locals.blur=[0]")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return survey(tmp_path_factory.mktemp("loader"))


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One slide crashes its reader from its third tile on, one raises from the first on."""
    return survey(tmp_path_factory.mktemp("bad"), ("a", "b", "c", "crash-late", "fail"))


def loader(
    root: Path,
    *more: str,
    start: int = 0,
    ranks: Ranks | None = None,
    run: Path | None = None,
    batch: int = 6,
) -> Loader:
    recipe = load("smoke", [*TINY, *ONLINE, f"batch={batch}", *more])
    data = SurveyData(root, recipe, run)
    return Loader(data, BatchOptions.of(recipe), start, ranks or Ranks(), threads=1)


def take(count: int, made: Loader) -> tuple[list[Batch], list[str], list[str]]:
    """Batches, names of their tiles, and news."""
    batches, names, news = [], [], []
    for batch in islice(made, count):
        batches.append(batch)
        names += [made.name(int(tile)) for tile in batch.tiles]
        news += made.news()
    made.close()
    return batches, names, news


def assert_same(some: list[Batch], others: list[Batch]) -> None:
    for one, other in zip(some, others, strict=True):
        assert np.array_equal(one.tiles, other.tiles)
        assert all(torch.equal(a, b) for a, b in zip(one.views, other.views, strict=True))


def test_any_step_first_and_any_number_of_readers(made: Path) -> None:
    whole, names, news = take(5, loader(made))
    assert news == []
    assert {name.split(",")[0] for name in names} == {f"slide {name}" for name in "abcd"}
    later, later_names, _ = take(2, loader(made, "online.readers=1", start=3))
    assert_same(whole[3:], later)
    assert names[18:] == later_names
    assert [tuple(view.shape) for view in whole[0].views[:3:2]] == [(6, 3, 32, 32), (6, 3, 16, 16)]


def test_two_ranks_take_what_one_takes(made: Path) -> None:
    whole, _, _ = take(3, loader(made))
    parts = [take(3, loader(made, ranks=Ranks(rank, 2)))[0] for rank in range(2)]
    for step, batch in enumerate(whole):
        for rank in range(2):
            assert np.array_equal(batch.tiles[rank::2], parts[rank][step].tiles)
            for one, other in zip(batch.views, parts[rank][step].views, strict=True):
                assert torch.equal(one[rank::2], other)


def test_another_seed_gives_other_tiles(made: Path) -> None:
    assert take(1, loader(made))[1] != take(1, loader(made, "seed=1"))[1]


def test_pixels_go_as_they_are_into_the_views(made: Path) -> None:
    """A view of the whole tile, unchanged, is the tile: no JPEG comes between."""
    whole = (
        "views.globals.scale=[1.0, 1.0]",
        "views.ratio=[1.0, 1.0]",
        "views.globals.size=64",
        "views.flip=0",
    )
    model = "model.kwargs={img_size: 64, patch_size: 16, depth: 1, embed_dim: 24, num_heads: 2}"
    made_loader = loader(made, *PLAIN, *whole, model, "views.globals.solarise=[0]")
    batch = next(iter(made_loader))
    recipe = load("smoke", [])
    mean, std = (torch.tensor(values)[:, None, None] for values in (recipe.model.mean, recipe.model.std))
    tile = made_loader.source._again(made_loader.source.drawn(int(batch.tiles[2])))  # type: ignore[attr-defined]
    seen = ((batch.views[0][2] * std + mean) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(seen, tile)
    assert in_hsv_box(tile).mean() >= 0.3
    made_loader.close()


@pytest.mark.parametrize(
    "stain",
    [
        "{mode: jitter, basis: hed, concentration: 0.1, shift: 0.05}",
        "{mode: jitter, basis: hed, concentration: 0.1, shift: 0.05, p: 0.5, per: tile}",
        "{mode: normalize, fit: load}",
        "{mode: jitter, fit: load, concentration: 0.1}",
    ],
)
def test_stain_without_stored_fits(made: Path, stain: str) -> None:
    plain, _, _ = take(1, loader(made))
    changed, _, _ = take(1, loader(made, f"stain={stain}"))
    assert np.array_equal(plain[0].tiles, changed[0].tiles)
    assert not torch.equal(plain[0].views[0], changed[0].views[0])
    again, _, _ = take(1, loader(made, f"stain={stain}"))
    assert_same(changed, again)


def test_stored_fits_are_refused(made: Path) -> None:
    with pytest.raises(TrainError, match=r"holds no stain fits.*use stain\.fit=load"):
        loader(made, "stain={mode: normalize}")


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "serve", deadly_slides.serve)


@pytest.mark.usefixtures("deadly")
def test_a_bad_slide_is_dropped_named_and_replaced_and_a_resume_is_exact(bad: Path, tmp_path: Path) -> None:
    whole, names, news = take(8, loader(bad, run=tmp_path))
    assert sorted(news) == [
        "dropped slide crash-late: the process that read it died (signal 6)",
        "dropped slide fail: fail: cannot be read there",
    ]
    slides = [name.split(",")[0] for name in names]
    assert slides.count("slide crash-late") <= 2
    assert "slide fail" not in slides
    assert len(list((tmp_path / "dropped").glob("*.json"))) == 2
    # from any step, without a bad slide being read again where it was bad
    for start in (0, 4):
        later, later_names, later_news = take(8 - start, loader(bad, start=start, run=tmp_path))
        assert_same(whole[start:], later)
        assert later_names == names[6 * start :]
        assert len(later_news) == 1
        assert "dropped before, which do not come (dropped/): " in later_news[0]


@pytest.mark.usefixtures("deadly")
def test_tiles_from_before_a_crash_stay(tmp_path: Path) -> None:
    root = survey(tmp_path, ("a", "b", "crash-late"))
    whole, names, _ = take(8, loader(root, run=tmp_path / "run"))
    assert sum(name.startswith("slide crash-late") for name in names) == 2
    again, again_names, _ = take(8, loader(root, run=tmp_path / "run"))
    assert_same(whole, again)
    assert names == again_names


@pytest.mark.usefixtures("deadly")
def test_a_resume_is_exact_though_the_slide_has_recovered(
    bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _, _ = take(6, loader(bad, run=tmp_path))
    monkeypatch.undo()  # nothing crashes any more
    again, _, news = take(6, loader(bad, run=tmp_path))
    assert_same(whole, again)
    assert [line.partition(" dropped before")[0] for line in news] == ["2 slides"]
    # and by another number of ranks
    half, _, _ = take(6, loader(bad, run=tmp_path, ranks=Ranks(1, 2)))
    for one, other in zip(whole, half, strict=True):
        assert all(torch.equal(a[1::2], b) for a, b in zip(one.views, other.views, strict=True))


@pytest.mark.usefixtures("deadly")
def test_too_many_bad_slides_end_the_run(bad: Path, tmp_path: Path) -> None:
    made_loader = loader(bad, "online.max_bad_slides=1", run=tmp_path)
    with pytest.raises(TrainError, match=r"2 slides dropped, more than online\.max_bad_slides=1: .*verify"):
        take(8, made_loader)
    made_loader.close()


def test_a_folder_that_was_away_for_a_while_costs_no_slide(tmp_path: Path) -> None:
    """What ended the run was of no step that was trained: put back, all slides come again."""
    root = survey(tmp_path)
    slides, away, run = tmp_path / "slides", tmp_path / "away", tmp_path / "run"
    whole, _, _ = take(3, loader(root, run=tmp_path / "other"))
    slides.rename(away)
    gone = loader(root, "online.max_bad_slides=1", run=run)
    with pytest.raises(TrainError, match="2 slides dropped"):
        take(3, gone)
    gone.close()
    away.rename(slides)
    again, _, news = take(3, loader(root, run=run))
    assert_same(whole, again)
    assert news == []


@pytest.mark.parametrize("later", [Failed("gone"), None])
def test_what_is_read_ahead_while_a_run_ends_drops_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: Failed | None
) -> None:
    """One slide is bad, the next ends the run, or its tile is cancelled as the run is closed."""

    class Pool:
        def __init__(self, *_: object) -> None:
            self.bad = set[str]()

        def submit(self, job: Job, out: object) -> Future[Answer]:
            future = Future[Answer]()
            if later is None and self.bad - {job.slide}:
                future.cancel()
            else:
                future.set_result(Failed("gone"))
            self.bad.add(job.slide)
            return future

        def close(self) -> None:
            pass

    monkeypatch.setattr(readers, "ReaderPool", Pool)
    ended = loader(made, "online.max_bad_slides=1", run=tmp_path)
    with pytest.raises((TrainError, CancelledError)):
        take(1, ended)
    ended.close()
    assert list(tmp_path.glob("dropped/*")) == []


def test_slides_that_moved_end_the_run_and_are_named(tmp_path: Path) -> None:
    root = survey(tmp_path / "moved" if (tmp_path / "moved").mkdir() is None else tmp_path)
    (root.parent / "slides").rename(root.parent / "elsewhere")
    made_loader = loader(root, "online.max_bad_slides=2")
    with pytest.raises(TrainError, match="it is not there, or cannot be read"):
        take(2, made_loader)
    made_loader.close()


def test_ranks_agree_on_a_step_from_which_a_slide_is_out(tmp_path: Path) -> None:
    first, second = (Record(tmp_path, 6, rank, 2) for rank in range(2))
    assert first.add("s", "bad", 2 * 6 + 4)
    assert not first.add("s", "worse", 2 * 6 + 4)
    assert first.add("s", "earlier", 2 * 6 + 2)
    second.refresh()
    (entry,) = second.entries
    assert entry == Dropped("s", "bad", 14, 0, 2, 6, 2 + AGREED)
    positions = np.arange(6 * (2 + AGREED + 1))
    expected = (positions >= 6 * (2 + AGREED)) | ((positions >= 14) & (positions % 6 % 2 == 0))
    np.testing.assert_array_equal(entry.out(positions), expected)
    assert second.out("s", 14)
    assert not second.out("s", 15)
    assert not second.out("t", 14)


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    Record(tmp_path, 6, 0, 1).add("s", "bad", 3)
    (path,) = tmp_path.glob("*.json")
    path.write_text(path.read_text().replace("3", "4"))
    with pytest.raises(CheckpointError, match="which slide the run has dropped"):
        Record(tmp_path, 6, 0, 1)


def test_counts_for_epochs_and_hold_out(made: Path) -> None:
    recipe: Any = load("smoke", [*TINY, *ONLINE])
    data = SurveyData(made, recipe)
    whole = len(data)
    assert whole == sum(data.holdable().values()) > 50
    held = data.tiles_of(["b", "d"])
    source = data.source(recipe.sampling, held)
    assert len(source) == whole - len(held)
    slides, _ = source.choice.draw(np.arange(500), np.zeros(500, np.int64), 0)
    assert {source.choice.slides[number] for number in slides} == {"a", "c"}
