"""Quality filters: bad tiles are dropped, counted by reason and put on record; others keep their bytes."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.slides import FLAWED_SIDE, FLAWS, flawed, write_tiff
from typer.testing import CliRunner

from pathprep.cli import app
from pathprep.dataset import marker as markers
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import build_id
from pathprep.errors import UsageError
from pathprep.folders import verify
from pathprep.params.quality import REASONS, QcParams, in_words
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.sharding import pipeline
from pathprep.sharding.pipeline import ShardTask
from pathprep.sharding.plan import prepare
from pathprep.slides.find import SlideSource
from pathprep.tiles.qc import FIGURES, verdicts

SIDE = FLAWED_SIDE
PARAMS = ShardParams(tile=SIDE, region=SIDE, min_tissue=0.2, stain=StainParams("fit"))
ALL = QcParams(min_focus=60.0, max_pen=0.2, max_white=0.6, min_hsv=0.6)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("slides") / "a.tif", flawed(), tile=128)


def shard(root: Path, path: Path, params: ShardParams, threads: int = 2) -> tuple[Dataset, dict[str, Any]]:
    build = prepare(root, params, rebuild=True)
    marker = pipeline.process(ShardTask(root, SlideSource(path, name="s"), params, build, threads))
    return Dataset(root), marker


def stored(dataset: Dataset) -> dict[tuple[int, int], tuple[dict[str, Any], str]]:
    """Row and hash of every tile by its place."""
    found = {}
    for row in dataset.table("s").to_pylist():
        data = dataset.read("s", row.pop("offset"), row.pop("length"))
        found[row["column"], row["row"]] = (row, hashlib.sha256(data).hexdigest())
    return found


def test_every_bad_tile_is_dropped_and_counted_by_reason(tmp_path: Path, slide: Path) -> None:
    plain, _ = shard(tmp_path / "plain", slide, PARAMS)
    dataset, marker = shard(tmp_path / "qc", slide, replace(PARAMS, qc=ALL))
    everything, kept = stored(plain), stored(dataset)
    dropped = {(row["column"], row["row"]): row for row in dataset.dropped("s").to_pylist()}
    assert everything.keys() == kept.keys() | dropped.keys()
    assert not kept.keys() & dropped.keys()
    for place, row in dropped.items():
        reason = "blurred" if place[0] >= 8 and place[1] < 2 else FLAWS[place[0]]
        assert row["reason"] == reason, place
        for name in (*FIGURES, "x", "y", "region", "side", "stored", "mpp", "tissue"):
            assert row[name] == everything[place][0][name]
    assert sum(column in FLAWS for column, _ in kept) == 0
    counts = marker.counts
    assert {reason: counts[reason] for reason in REASONS} == {
        "blurred": 10,
        "pen": 6,
        "white": 6,
        "hsv": 6,
    }
    assert counts["kept"] == marker.tiles == len(kept) == 60 - 28
    assert sum(counts.values()) == marker.grid.columns * marker.grid.rows
    assert sum(marker.stain.values()) == len(kept)


def test_what_stays_keeps_its_bytes(tmp_path: Path, slide: Path) -> None:
    """A tile with a fit of its own owes nothing to the tiles that were dropped."""
    for mode in ("bake", "fit", "none"):
        params = replace(PARAMS, stain=StainParams(mode))
        everything = stored(shard(tmp_path / f"{mode}-plain", slide, params)[0])
        kept = stored(shard(tmp_path / f"{mode}-qc", slide, replace(params, qc=ALL))[0])
        own = [place for place, (row, _) in kept.items() if row["stain_status"] in ("fitted", "none")]
        assert len(own) == len(kept) == 32
        assert all(kept[place] == everything[place] for place in own)


def test_dropped_tiles_have_no_part_in_the_pooled_fit(tmp_path: Path, slide: Path) -> None:
    only_flat = QcParams(max_white=0.6, max_pen=0.2, min_hsv=0.6)
    dataset, marker = shard(tmp_path / "a", slide, replace(PARAMS, qc=only_flat))
    late = [row for row, _ in stored(dataset).values() if row["stain_status"] == "slide_fit"]
    assert len(late) == marker.stain["slide_fit"] == 4
    plain, plain_marker = shard(tmp_path / "b", slide, PARAMS)
    assert plain_marker.stain_fit.he != marker.stain_fit.he
    both = replace(PARAMS, qc=replace(only_flat, min_focus=60.0))
    dataset, marker = shard(tmp_path / "c", slide, both)
    assert "slide_fit" not in marker.stain
    assert dataset.dropped("s").num_rows == marker.counts["blurred"] + 18
    plain.close()


def test_threads_and_reruns_change_no_byte(tmp_path: Path, slide: Path) -> None:
    params = replace(PARAMS, qc=replace(ALL, min_focus=None), stain=StainParams("bake"), max_tiles=40)
    first = shard(tmp_path / "1", slide, params, threads=1)[1]
    again = shard(tmp_path / "4", slide, params, threads=4)[1]
    assert first.files == again.files
    assert "dropped/s.parquet" in first.files
    assert markers.is_done(tmp_path / "1", "s", first.build_id, first.inputs)
    counts = first.counts
    assert counts["kept"] + sum(counts.get(reason, 0) for reason in REASONS) == 40  # chosen, then filtered
    assert "blurred" not in counts  # that filter is off


def test_everything_dropped(tmp_path: Path, slide: Path) -> None:
    for mode in ("bake", "none"):
        params = replace(PARAMS, qc=QcParams(min_focus=1e9), stain=StainParams(mode))
        dataset, marker = shard(tmp_path / mode, slide, params)
        assert (marker.tiles, marker.counts["kept"], marker.stain) == (0, 0, {})
        assert dataset.table("s").num_rows == 0
        assert dataset.dropped("s", ["x"]).num_rows == 60
        assert [found.problems for found in verify(tmp_path / mode)] == [[], []]


def test_verify_knows_the_dropped_tiles(tmp_path: Path, slide: Path) -> None:
    shard(tmp_path, slide, replace(PARAMS, qc=ALL))
    assert [found.problems for found in verify(tmp_path)] == [[], []]
    path = tmp_path / "dropped" / "s.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"?")
    assert "dropped/s.parquet: its bytes have changed" in next(iter(verify(tmp_path))).problems[0]
    # a build without filters leaves no record of an earlier one's
    dataset, marker = shard(tmp_path, slide, PARAMS)
    assert not path.exists()
    assert dataset.dropped("s").num_rows == 0
    assert dataset.dropped("s", ["x", "reason"]).column_names == ["x", "reason"]
    assert marker.counts.keys().isdisjoint(REASONS)
    (tmp_path / "dropped" / "other.parquet").write_bytes(data)
    assert "dropped/other.parquet: belongs to no slide" in list(verify(tmp_path))[-1].problems[0]


def figures(**values: float) -> np.ndarray:
    """One tile that passes everything, but for what is given."""
    good = {"saturation": 0.3, "white": 0.0, "focus": 500.0, "stained": 0.8, "hsv": 0.9, "pen": 0.0}
    return np.array([[(good | values)[name] for name in FIGURES]], np.float32)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, None),
        # at the threshold a tile stays; 0.6 and 0.2 are no binary fractions, and the figures are float32
        ({"focus": 60.0, "pen": 0.2, "white": 0.6, "hsv": 0.6}, None),
        ({"focus": 59.9}, "blurred"),
        ({"pen": 0.21}, "pen"),
        ({"white": 0.61}, "white"),
        ({"hsv": 0.59}, "hsv"),
        ({"hsv": 0.1, "white": 0.9}, "white"),
        ({"hsv": 0.1, "white": 0.9, "pen": 0.9}, "pen"),
        ({"hsv": 0.1, "white": 0.9, "pen": 0.9, "focus": 0.0}, "blurred"),
        ({"hsv": float("nan")}, "hsv"),
    ],
)
def test_the_first_rule_that_fails_counts(values: dict[str, float], reason: str | None) -> None:
    found = int(verdicts(figures(**values), ALL)[0])
    assert (None if found < 0 else REASONS[found]) == reason
    assert verdicts(figures(**values), QcParams()).tolist() == [-1]


def test_thresholds_that_are_not_set_change_nothing() -> None:
    assert "qc" not in ShardParams().as_dict()
    plain, same = ShardParams(), ShardParams(qc=QcParams())
    assert build_id(plain.as_dict()) == build_id(same.as_dict())
    one = ShardParams(qc=QcParams(min_hsv=0.6)).as_dict()
    assert one["qc"] == {"min_hsv": 0.6}
    assert build_id(one) != build_id(plain.as_dict())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_focus": -1.0}, "`min_focus` is a variance: 0 or more"),
        ({"min_focus": float("nan")}, "`min_focus` is a variance"),
        ({"max_pen": 10.0}, "`max_pen` is a share: 0 to 1"),
        ({"max_white": -0.1}, "`max_white` is a share"),
        ({"min_hsv": 60.0}, "`min_hsv` is a share"),
    ],
)
def test_impossible_thresholds_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        QcParams(**wrong)


def test_in_words() -> None:
    assert in_words({}) == "No tile was dropped for its quality."
    assert in_words(ALL.as_dict()) == (
        "A tile is dropped for a focus below 60 (--min-focus), or more than 20 % pen (--max-pen), "
        "or more than 60 % white (--max-white), or less than 60 % of its pixels in the HSV box (--min-hsv)."
    )


def test_options_of_the_command(tmp_path: Path, slide: Path) -> None:
    options = ["--tile", "64", "--min-tissue", "0.2", "--stain", "none", "--workers", "1"]
    filters = ["--min-focus", "60", "--max-pen", "0.2", "--max-white", "0.6", "--min-hsv", "0.6"]
    out = tmp_path / "out"
    arguments = ["shard", str(slide), "--out", str(out), *options]
    done = CliRunner().invoke(app, [*arguments, *filters])
    assert done.exit_code == 0, done.output
    assert "blurred 10, pen 6, white 6, hsv 6" in " ".join(done.output.split())
    assert json.loads((out / "dataset.json").read_text())["params"]["qc"] == ALL.as_dict()
    refused = CliRunner().invoke(app, [*arguments, "--min-hsv", "0.5"])
    assert isinstance(refused.exception, UsageError)
    assert "qc.min_hsv 0.6 there, 0.5 now" in str(refused.exception)
