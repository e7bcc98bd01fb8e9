"""Several ranks as several processes with gloo: the same as one, sharded or not, stopped and resumed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hierarchies import FIRST, SECOND, SMALL, write_slides
from helpers.toys import TINY, moved, noise, write_dataset

from pathprep.errors import UsageError
from pathtrain.distributed import ranks as distributed
from pathtrain.distributed.ranks import Ranks
from pathtrain.runs import checkpoint
from pathtrain.training.logs import rows

SETTINGS = (
    *TINY,
    "steps=6",
    "batch=8",
    "log_every=1",
    "checkpoint.every=3",
    "dino.head={out_dim: 32, hidden_dim: 16, bottleneck_dim: 8, layers: 3, norm_last_layer: true}",
    "dino.freeze_last_layer_steps=2",
    "model.kwargs.depth=2",
    "optim.warmup_steps=2",
    "optim.clip=0.3",
    "optim.layer_decay=0.7",
    "model.freeze_patch_embed=true",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    slides = {"a": noise(15, 64, seed=1), "b": noise(7, 48, (90, 60, 140), seed=2)}
    return write_dataset(tmp_path_factory.mktemp("ranks") / "dataset", slides)


@pytest.mark.parametrize(
    ("world", "here", "threads"), [(1, None, 8), (1, "1", 8), (8, "4", 2), (16, None, 1)]
)
def test_a_loader_has_its_ranks_part_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, world: int, here: str | None, threads: int
) -> None:
    """Whatever OMP_NUM_THREADS says, which torchrun sets to 1."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if here is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    assert Ranks(0, world).threads == threads


def command(dataset: Path, run: Path, *more: str, base: tuple[str, ...] = SETTINGS) -> list[str]:
    settings = [part for setting in (*base, *more) for part in ("--set", setting)]
    return ["-m", "pathtrain", "pretrain", str(dataset), "--out", str(run), *settings]


def start(world: int, *arguments: str) -> list[subprocess.Popen[str]]:
    """As torchrun does, without its own process."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    place = {
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    ended = [(*process.communicate(timeout=300), process.returncode) for process in processes]
    return [(code, out, error) for out, error, code in ended]


def train(world: int, dataset: Path, run: Path, *more: str) -> list[tuple[int, str, str]]:
    ended = finish(start(world, *command(dataset, run, *more)))
    assert [code for code, _, _ in ended] == [0] * world, ended
    return ended


@pytest.fixture(scope="module")
def alone(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("ranks") / "alone"
    train(1, dataset, run)
    return run


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {name: leaf for key, part in items for name, leaf in leaves(part, f"{prefix}/{key}").items()}
    return {prefix: value}


def assert_close(run: Path, other: Path) -> None:
    mine, theirs = leaves(checkpoint.load(run)), leaves(checkpoint.load(other))
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        if isinstance(value, torch.Tensor):
            assert type(value) is torch.Tensor
            assert value.shape == theirs[name].shape
            pair, remembered = (moved(name, value), moved(name, theirs[name])), name == "/risks"
            assert torch.allclose(*pair, rtol=1e-3, atol=3e-5, equal_nan=remembered), name
        else:
            assert value == theirs[name], name
    for row, expected in zip(rows(run), rows(other), strict=True):
        spread = ("kl", "output_entropy", "feature_rank", "feature_sd", "gradient_norm_head")
        shown = {"step", "steps", "loss", "lr", "gradient_norm", "teacher_entropy", *spread}
        for name in shown & expected.keys():
            assert row[name] == pytest.approx(expected[name], rel=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        (),
        ("micro_batch=3",),
        ("sharding=full",),
        ("sharding=full", "micro_batch=2", "model.checkpoint=true"),
    ],
)
def test_two_ranks_are_one(dataset: Path, alone: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    first, second = train(2, dataset, tmp_path / "run", *more)
    assert "6 steps done" in first[1]
    assert second[1] == ""
    assert_close(tmp_path / "run", alone)


@pytest.mark.slow
def test_two_ranks_are_one_on_several_datasets(dataset: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", {"a": noise(9, 64, seed=3)})
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    weights = ["--set", "sampling={by: slide, datasets: {dataset: 1, other: 2}}"]
    both = ["-m", "pathtrain", "pretrain", str(dataset), str(other), *settings, *weights]
    for world in (1, 2):
        ended = finish(start(world, *both, "--out", str(tmp_path / str(world))))
        assert [code for code, _, _ in ended] == [0] * world, ended
    assert_close(tmp_path / "2", tmp_path / "1")


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("sharding=full",)])
def test_two_ranks_are_one_where_the_backbone_thaws(
    dataset: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """After step 4, that the last layer thaws after step 2; norms of networks are of all their parts."""
    base = ("optim.freeze_backbone_steps=4", "optim.clip_by=network", "optim.patch_embed_scale=0.2")
    train(1, dataset, tmp_path / "one", *base)
    train(2, dataset, tmp_path / "two", *base, *more)
    assert_close(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ("micro_batch=2",),
        ("sharding=full", "model.checkpoint=true"),
        ("sharding=full", "micro_batch=2", "ibot.head=null"),
    ],
)
def test_two_ranks_are_one_of_dinov2(dataset: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    """Sinkhorn and the regulariser are of all tiles of a step, whoever has them."""
    base = (
        *(setting for setting in SETTINGS if not setting.startswith("optim.clip")),
        "model.kwargs={img_size: 32, patch_size: 8, depth: 2, embed_dim: 24, num_heads: 2}",
        "ibot.head={out_dim: 24, hidden_dim: 16, bottleneck_dim: 8, layers: 3, norm_last_layer: false}",
        "dino.teacher_temp={start: 0.04, end: 0.07, steps: 4}",
        "dino.drop_path=0",
        *(setting for setting in more if setting.startswith("ibot")),
    )
    for world, given in ((1, ()), (2, more)):
        call = command(dataset, tmp_path / str(world), *given, base=base)
        ended = finish(start(world, *call, "--recipe", "midnight-tiny"))
        assert [code for code, _, _ in ended] == [0] * world, ended
    assert_close(tmp_path / "2", tmp_path / "1")


@pytest.mark.slow
def test_two_ranks_are_one_through_three_stages(tmp_path: Path) -> None:
    """Steps and validation, the five slides of which the ranks divide; a task that most slides lack."""
    dataset, labels = write_slides(tmp_path / "dataset"), tmp_path / "labels.csv"
    parts = [("a0", "train", "x"), ("b0", "train", "y"), ("a1", "train", ""), ("b1", "train", "")]
    parts += [("a2", "val", "x"), ("a3", "val", "x"), ("b2", "val", "x"), ("b3", "val", "")]
    lines = [f"{name},{split},{name[0]},{odd},{n + 3},1" for n, (name, split, odd) in enumerate(parts)]
    labels.write_text("\n".join(["slide_id,split,colour,odd,months,died", *lines]) + "\n")
    still = ("hierarchy.stage2.dropout=0", "hierarchy.stage3={dim: 16, depth: 1, heads: 2}")
    phases = f"hierarchy.phases=[{FIRST}, {SECOND}]"
    tasks = "hierarchy.tasks=[colour, odd, 'months,died:survival']"
    base = (*SMALL, *still, "dino.drop_path=0", phases, "hierarchy.phases.0.region.teacher_temp=null", tasks)
    for world in (1, 2):
        call = command(dataset, tmp_path / str(world), "optim.warmup_steps=1", base=base)
        ended = finish(start(world, *call, "--recipe", "exaonepath2-tiny", "--labels", str(labels)))
        assert [code for code, _, _ in ended] == [0] * world, ended
    assert_close(tmp_path / "2", tmp_path / "1")
    assert int((~checkpoint.load(tmp_path / "2")["risks"].isnan()).sum()) == 4  # each training slide was met
    figures = [
        {name: value for name, value in row.items() if name.startswith("val_")}
        for world in (1, 2)
        for row in rows(tmp_path / str(world))
    ]
    assert figures[:8] == figures[8:]
    assert figures[5].keys() == {
        "val_colour_auroc",
        "val_colour_balanced_accuracy",
        "val_odd_balanced_accuracy",
        "val_months_c_index",
    }, "of one class there is no AUROC"


@pytest.mark.slow
def test_a_run_goes_on_with_other_ranks_sharded_or_not(dataset: Path, alone: Path, tmp_path: Path) -> None:
    """One rank to step 3, then two sharded; and two sharded to step 3, then one."""
    for number, (before, after) in enumerate([(1, 2), (2, 1)]):
        run = tmp_path / f"run{number}"
        train(before, dataset, run, "sharding=full")
        for path in checkpoint.folder(run).glob("00000006.*"):
            path.unlink()
        first = train(after, dataset, run, "sharding=full")[0]
        assert "resuming at step 3 of 6" in first[2]
        assert_close(run, alone)


@pytest.mark.slow
def test_asked_to_stop_one_rank_stops_all_at_the_same_step(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    processes = start(2, *command(dataset, run, "steps=100000", "checkpoint.every=100000"))
    while not rows(run) and all(process.poll() is None for process in processes):
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGUSR1)
    ended = finish(processes)
    assert [code for code, _, _ in ended] == [75, 75], ended
    last = checkpoint.entries(run)[-1].step
    assert f"SIGUSR1: stopped after step {last} of 100000" in " ".join(ended[0][2].split())
    assert rows(run)[-1]["step"] == last


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_others_at_once(dataset: Path, tmp_path: Path) -> None:
    """Not after the hours that they would wait for one that works."""
    run = tmp_path / "run"
    processes = start(2, *command(dataset, run, "steps=100000", "checkpoint.every=100000"))
    while not rows(run) and all(process.poll() is None for process in processes):
        time.sleep(0.02)
    processes[1].kill()
    (code, _, error), _ = finish(processes)
    assert code == 1
    assert "rank 0: stopped, as another rank is gone; see its own message" in " ".join(error.split())


@pytest.mark.slow
def test_mistakes_end_all_ranks(dataset: Path, tmp_path: Path) -> None:
    ended = finish(start(2, *command(dataset, tmp_path / "run", "batch=7")))
    assert [code for code, _, _ in ended] == [2, 2]
    assert "batch 7 cannot be divided among 2 ranks; batch=6 or 8 can" in ended[0][2]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text("{")
    ended = finish(start(2, *command(dataset, tmp_path / "other")))
    assert [code for code, _, _ in ended] == [1, 1]
    assert "run.json is damaged" in ended[0][2]
    assert "rank 1: stopped, as rank 0 did" in ended[1][2]
    assert "Traceback" not in ended[0][2] + ended[1][2]


@pytest.mark.slow
def test_tiles_of_every_rank_are_named_where_the_loss_is_not_finite(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    wild = ("optim.lr=1e30", "optim.clip=null", "optim.warmup_steps=0")
    ended = finish(start(2, *command(dataset, run, *wild)))
    assert [code for code, _, _ in ended] == [1, 1], ended
    (path,) = run.glob("nonfinite-*.json")
    record = json.loads(path.read_text())
    assert [tile["rank"] for tile in record["tiles"]] == [0] * 4 + [1] * 4
    assert str(path) in ended[0][2]


@pytest.mark.slow
def test_torchrun(dataset: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, *command(dataset, tmp_path / "run", "steps=2")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 steps done") == 1


def test_one_process_is_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.ranks() as ranks:
        assert (ranks.rank, ranks.world, ranks.first) == (0, 1, True)
        assert ranks.gather("x") == ["x"]
        assert ranks.decide(lambda: 5) == 5
        assert ranks.share(7) == 7


@pytest.mark.parametrize(("name", "value"), [("RANK", None), ("RANK", "first"), ("WORLD_SIZE", "many")])
def test_incomplete_variables(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.delenv("RANK", raising=False)
    if value is not None:
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"variable {name} is .*torchrun"), distributed.ranks():
        pass


@pytest.mark.parametrize(("batch", "near"), [(7, "6 or 8"), (1, "2")])
def test_batches_that_cannot_be_divided(batch: int, near: str) -> None:
    with pytest.raises(UsageError, match=f"; batch={near} can, "):
        Ranks(1, 2, torch.device("cpu")).share(batch)


def test_ranks_wait_for_gradients_as_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not NCCL's 10 minutes."""

    def join(backend: str, *, rank: int, world_size: int, timeout: timedelta) -> None:
        raise ValueError(f"{rank} of {world_size} would wait {timeout}")

    monkeypatch.setattr(torch.distributed, "init_process_group", join)
    for name, value in (("WORLD_SIZE", 2), ("RANK", 1), ("LOCAL_RANK", 0)):
        monkeypatch.setenv(name, str(value))
    with (
        pytest.raises(UsageError, match="1 of 2 would wait 0:07:00"),
        distributed.ranks(timedelta(minutes=7)),
    ):
        pass
