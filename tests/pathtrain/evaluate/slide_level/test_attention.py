"""The attention of bag models as a file of scores, of which the tile that decides has the most."""

from pathlib import Path

import numpy as np
import pytest
from helpers.commands import command
from helpers.featured import key_bags, write_features, write_labels

from pathprep.errors import UsageError
from pathprep.scores.placed import place
from pathprep.scores.read import read_scores
from pathtrain import evaluate
from pathtrain.evaluate.slide_level.attention import ranks


def test_ranks() -> None:
    assert ranks(np.array([3.0, 1.0, 2.0])).tolist() == [1, 0, 0.5]
    assert ranks(np.array([7.0])).tolist() == [0.5]
    assert ranks(np.array([1.0, 1.0])).tolist() == [0.5, 0.5]


def test_attention_finds_the_tile_that_decides(tmp_path: Path) -> None:
    bags, keys = key_bags(40, dim=6)
    names = [f"s{n:02}" for n in range(40)]
    folder = write_features(tmp_path / "features", dict(zip(names, bags, strict=True)))
    rows = [
        {
            "slide_id": name,
            "label": "key" if key is not None else "plain",
            "split": ("train", "val", "test")[n // 16],
        }
        for n, (name, key) in enumerate(zip(names, keys, strict=True))
    ]
    out = tmp_path / "attention.parquet"
    arguments = ("--method", "abmil", "--seeds", "1", "--epochs", "40", "--attention", out)
    labels = write_labels(tmp_path / "labels.csv", rows)
    done = command("pathtrain", "evaluate", "slides", folder, "--labels", labels, *arguments, cwd=tmp_path)
    assert done.code == 0, done.err
    found = read_scores(out)
    assert sorted(found.slides) == names[32:]  # the test part
    for name, key in zip(names[32:], keys[32:], strict=True):
        columns = place(out, name, found.only(name), 320, 200).rows.columns
        assert list(columns) == ["label abmil rank", "label abmil"]
        if key is not None:
            assert columns["label abmil rank"][key] == 1
            assert columns["label abmil"].argmax() == key
    with pytest.raises(UsageError, match="linear has none"):
        evaluate.slides([folder], [labels], method=["linear"], attention=out)
