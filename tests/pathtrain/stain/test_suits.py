"""Whether data serves a recipe's stain: every kind of data, and the ways out that the refusal names."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.mixing import write
from helpers.stains import recipe

import pathprep
from pathprep.mixed.make import mix
from pathprep.mixed.reader import MixedDataset
from pathprep.stain import Target
from pathtrain.errors import TrainError
from pathtrain.recipes.load import load
from pathtrain.stain.suits import check

Make = Callable[..., Path]
EXPECTED = recipe("stain.expect=normalised").stain


def made(root: Path, kind: str, stain: str) -> Path:
    """A dataset of slides, an imported set, or a mix of two sources of them."""
    if kind != "mixed":
        return write(root / "one", {"a": 3}, stain, labels={"a": "x"} if kind == "imported" else None)
    sources = [write(root / "one", {"a": 3}, stain), write(root / "two", {"b": 2}, stain)]
    mix(sources, root / "mixed", tiles_per_shard=5)
    return root / "mixed"


MAKERS = {"slides": "pathprep shard", "imported": "pathprep import-tiles", "mixed": "pathprep shard"}


@pytest.mark.parametrize("kind", MAKERS)
def test_expected_normalised(kind: str, tmp_path: Path) -> None:
    for stain, way in (("none", "stain.mode=normalize stain.fit=load,"), ("fit", "stain.mode=normalize,")):
        data = pathprep.open(made(tmp_path / stain, kind, stain))
        again = ", and mix it again" if kind == "mixed" else ""
        with pytest.raises(TrainError) as refusal:
            check([data], EXPECTED, None)
        assert f"make it again with `{MAKERS[kind]} --stain bake`{again}, or set {way}" in str(refusal.value)
        # the way out that it names leads out, and so does saying that plain tiles are meant
        settings = way.rstrip(",").split()
        out = recipe("stain.expect=normalised", *settings).stain
        assert check([data], out, Target.default()) == out
        assert check([data], recipe().stain, None).mode == "none"
    assert check([pathprep.open(made(tmp_path / "bake", kind, "bake"))], EXPECTED, None) == EXPECTED


def test_all_sources_of_a_mix_must_be_normalised(tmp_path: Path) -> None:
    data = pathprep.open(made(tmp_path, "mixed", "bake"))
    assert isinstance(data, MixedDataset)
    data.info["sources"][1]["params"]["stain"] = {"mode": "none"}
    with pytest.raises(TrainError, match="are not normalised"):
        check([data], EXPECTED, None)


def test_exaonepath1_refuses_plain_tiles_and_takes_baked_ones(stained: Make) -> None:
    published = load("exaonepath1").stain
    assert published.expect == "normalised"
    assert check([pathprep.open(stained("bake"))], published, None).mode == "none"
    with pytest.raises(TrainError, match=r"pathprep shard --stain bake`, or set stain.mode=normalize, "):
        check([pathprep.open(stained("fit"))], published, None)


def test_what_is_left_on_tiles_baked_to_the_target(stained: Make, target: Target) -> None:
    """Nothing, or jitter; `pathprep shard` bakes and exaonepath2-tiny normalises, each by default."""
    baked, reference = pathprep.open(stained("bake")), Target.default()
    assert check([baked], recipe("stain.mode=normalize").stain, reference).mode == "none"
    tiny = load("exaonepath2-tiny").stain
    left = check([baked], tiny, reference)
    assert (left.mode, left.concentration, left.fit) == ("jitter", tiny.concentration, "stored")
    with pytest.raises(TrainError, match=r"to another target .* name that target with stain.target"):
        check([baked], tiny, target)
    assert check([pathprep.open(stained("bake", target))], tiny, target).mode == "jitter"
