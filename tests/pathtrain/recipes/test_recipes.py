"""Recipes: those in the package are valid and marked; mistakes give one line that names the key."""

import math
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from pathtrain.errors import RecipeError
from pathtrain.methods import dino, schedules
from pathtrain.recipes.load import dump, load, names


def test_names() -> None:
    assert {"smoke", "exaonepath1"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_dumped_recipes_load_as_the_same(name: str, tmp_path: Path) -> None:
    recipe = load(name)
    (tmp_path / "recipe.yaml").write_text(dump(recipe))
    assert load(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize("name", ["exaonepath1", "exaonepath2", "midnight", "midnight-392", "dinov2-vits"])
def test_every_value_of_a_published_recipe_is_marked(name: str) -> None:
    lines = (resources.files("pathtrain.recipes") / f"{name}.yaml").read_text().splitlines()
    for before, line in pairwise(lines):
        code, _, comment = line.partition("#")
        value = code.partition(":")[2].strip()
        if value and value != "{}":
            marked = comment + (before if before.lstrip().startswith("#") else "")
            assert any(word in marked for word in ("Exact", "Inferred", "Unknown")), line


def test_the_published_values() -> None:
    """As the paper and the original DINO code have them."""
    recipe = load("exaonepath1")
    assert (recipe.epochs, recipe.batch, recipe.optim.lr, recipe.optim.warmup_steps) == (
        10,
        5120,
        0.005,
        1000,
    )
    assert (recipe.views.globals.count, recipe.views.locals.count, recipe.views.locals.size) == (2, 8, 96)
    assert (recipe.dino.head.out_dim, recipe.dino.freeze_last_layer_steps) == (65536, 0)
    assert recipe.total_steps(285_153_903) == 556_942
    assert recipe.stain.mode == "none"  # the shards are baked; no jitter in the paper


def test_midnights_values() -> None:
    """As its model card, its checkpoints and DINOv2's configuration of ViT-g/14 have them."""
    recipe, later = load("midnight"), load("midnight-392")
    assert (recipe.steps, recipe.batch) == (300 * 1667, 768)
    assert recipe.optim.lr == pytest.approx(3.5e-4 * math.sqrt(768 / 1024), rel=1e-3)
    assert (recipe.views.globals.size, recipe.views.locals.size, recipe.views.locals.count) == (224, 98, 8)
    assert (recipe.dino.head.out_dim, recipe.ibot.head.out_dim) == (131072, 131072)
    assert recipe.model.mean == recipe.model.std == (0.5, 0.5, 0.5)
    assert sorted(recipe.sampling.mpps) == [0.25, 0.5, 1, 2]
    assert (later.steps, later.batch) == (30000, 6 * 4 * 48)
    assert later.optim.lr == pytest.approx(1e-4 * math.sqrt(1152 / 1024), rel=1e-3)
    assert (later.views.globals.size, later.views.locals.size) == (392, 168)
    assert sorted(later.sampling.mpps) == [0.125, 0.25, 0.5, 1]
    assert later.online.tile == 2 * recipe.online.tile == 512


def test_midnights_schedules_by_hand() -> None:
    recipe = load("midnight")
    steps, warm = recipe.steps, recipe.optim.warmup_steps

    def decay(step: int) -> float:
        ramp = recipe.optim.weight_decay
        return schedules.cosine(step, steps, ramp.start, ramp.end)

    def rate(step: int) -> float:
        return schedules.learning_rate(step, steps, recipe.optim)

    assert [decay(0), decay(steps // 2), decay(steps)] == pytest.approx([0.04, 0.12, 0.2])
    assert [rate(0), rate(warm - 1), rate(steps)] == pytest.approx([0, 3.03e-4, 1e-6])
    # half a cosine is half way down in the middle of what follows the warm-up
    assert rate((steps + warm) // 2) == pytest.approx((3.03e-4 + 1e-6) / 2, rel=1e-4)
    temps = [dino.teacher_temp(recipe.dino, step) for step in (0, 25005, 50010, 400000)]
    assert temps == pytest.approx([0.04, 0.055, 0.07, 0.07])
    momenta = [dino.momentum(recipe.dino, step, steps) for step in (0, steps // 4, steps // 2)]
    assert momenta == pytest.approx([0.994, 1 - 0.003 * (1 + math.sqrt(0.5)), 0.997])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lr=0", "recipe smoke: optim.lr: Input should be greater than 0"),
        ("optim.lr=.nan", "recipe smoke: optim.lr: Input should be a finite number"),
        ("optim.learning_rate=1", "recipe smoke: optim.learning_rate: no such key"),
        ("teacher_temp=0.1", "recipe smoke: teacher_temp: no such key; did you mean dino.teacher_temp?"),
        ("sampling={mpp: {1: 1}}", "recipe smoke: sampling.mpp: no such key; did you mean sampling.mpps"),
        ("optim.warmup=1", "recipe smoke: optim.warmup: no such key; did you mean optim.warmup_steps?"),
        (
            "dino.teacher_temp=0.2",
            "recipe smoke: dino.teacher_temp: expected keys and values: start, end, st",
        ),
        ("probes={kind: rank}", "recipe smoke: probes: expected a list"),
        ("batch=many", "recipe smoke: batch: Input should be a valid integer"),
        (
            "method=[dino]",
            "recipe smoke: method: there is none called ['dino']; there are dino, dinov2, hierarchical",
        ),
        (
            "method=ibot",
            "recipe smoke: method: there is none called ibot; there are dino, dinov2, hierarchical",
        ),
        ("views.globals.scale=[1,0.5]", "recipe smoke: views.globals: scale needs the smaller value first"),
        ("views.locals.blur=[0.5,0.5]", "recipe smoke: views.locals: count is 4, blur has 2 values"),
        ("views.globals.count=1", "recipe smoke: views"),
        ("dino.momentum.end=1.5", "recipe smoke: dino: momentum must be at most 1"),
        ("stain.concentration=0.1", "recipe smoke: stain: concentration, angle and shift need mode"),
        ("stain.shift=0.1", "recipe smoke: stain: concentration, angle and shift need mode"),
        ("stain.target=t.json", "recipe smoke: stain: target needs mode normalize"),
        ("stain={mode: jitter, angle: 3, target: t.json}", "recipe smoke: stain: target needs mode"),
        ("stain.mode=jitter", "recipe smoke: stain: mode jitter needs concentration, angle or shift above 0"),
        ("stain.basis=hed", "recipe smoke: stain: basis hed needs mode jitter"),
        ("stain={mode: normalize, angle: 3, basis: hed}", "recipe smoke: stain: basis hed needs mode jitter"),
        (
            "stain={mode: jitter, concentration: 0.1, angle: 3, basis: hed}",
            "recipe smoke: stain: basis hed has no",
        ),
        ("stain.mode=macenko", "recipe smoke: stain.mode: Input should be 'none', 'normalize' or 'jitter'"),
        ("stain={mode: normalize, concentration: 1.5}", "recipe smoke: stain.concentration: Input should"),
        ("stain={mode: normalize, angle: 46}", "recipe smoke: stain.angle: Input should be less than or"),
        ("steps=null", "recipe smoke: give exactly one of steps and epochs"),
        ("steps", "`settings` steps: expected key=value"),
        ("optim.lr.x=1", "`settings` optim.lr.x: lr holds a value, not keys"),
        ("views.globals.scale.2=1", "`settings` views.globals.scale.2: scale has 0 to 1, not 2"),
        ("steps=[1", "`settings` steps=[1: not YAML"),
        ("collapse.every=5", "`settings` collapse.every: there is no collapse any more, it is probes"),
        ("probes.0.every=5", "`settings` probes.0.every: probes is empty, not 0"),
        ("probes=[{kind: collapse}]", "recipe smoke: probes.0.every: Field required"),
        ("probes=[{kind: tsne, every: 1}]", "recipe smoke: probes.0"),
        (
            "probes=[{kind: collapse, every: 1}, {kind: collapse, every: 2}]",
            "recipe smoke: probes: 2 are called collapse; give each its own `name`",
        ),
    ],
)
def test_mistakes_are_named_on_one_line(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load("smoke", [override])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_several_mistakes_give_a_line_each() -> None:
    with pytest.raises(RecipeError) as caught:
        load("smoke", ["optim.lr=-1", "batch=0"])
    assert len(str(caught.value).splitlines()) == 2


def test_overrides_apply_in_order_and_take_yaml() -> None:
    recipe = load("smoke", ["batch=3", "batch=5", "optim.lr=1e-3", "model.kwargs.depth=2", "optim.clip=null"])
    assert (recipe.batch, recipe.optim.lr, recipe.model.kwargs["depth"]) == (5, 0.001, 2)
    assert recipe.optim.clip is None


@pytest.mark.parametrize(
    "stain",
    [
        "{mode: normalize}",
        "{mode: normalize, target: some/t.json, concentration: 0.1, angle: 4}",
        "{mode: jitter, angle: 4}",
        "{mode: jitter, concentration: 0.1, basis: hed}",
    ],
)
def test_stain_modes(stain: str, tmp_path: Path) -> None:
    recipe = load("smoke", [f"stain={stain}"])
    (tmp_path / "recipe.yaml").write_text(dump(recipe))
    assert load(tmp_path / "recipe.yaml").stain == recipe.stain


def test_a_recipe_from_before_stain_leaves_it_alone(tmp_path: Path) -> None:
    values = yaml.safe_load(dump(load("smoke")))
    del values["stain"]
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(values))
    assert load(tmp_path / "old.yaml") == load("smoke")


def test_a_labs_first_encoder_keeps_what_its_start_knows() -> None:
    """New heads have moved, and their last layers too, before the backbone listens to them."""
    recipe = load("starter")
    optim = recipe.optim
    assert recipe.dino.freeze_last_layer_steps < optim.freeze_backbone_steps < optim.warmup_steps
    assert optim.layer_decay < 1
    assert recipe.model.init.startswith("timm:")
    assert (recipe.sharding, recipe.micro_batch) == ("none", None)  # one card
    assert {probe.kind for probe in recipe.probes} == {"rank", "collapse"}  # of what needs no labels


def test_steps_and_epochs_replace_each_other() -> None:
    assert load("smoke", ["epochs=1.5"]).total_steps(100) == -(-150 // load("smoke").batch)
    assert load("exaonepath1", ["steps=7"]).total_steps(100) == 7
    assert load("smoke", ["epochs=1", "batch=1000"]).total_steps(1) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "no such recipe; there are dinov2-vits, exaonepath1, exaonepath2, "),
        ("nothing.yaml", "No such file"),
    ],
)
def test_absent_recipes(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(name)


@pytest.mark.parametrize(
    ("text", "message"), [("- 1", "expected keys"), ("a: [", "not YAML"), ("", "expected keys")]
)
def test_files_that_are_no_recipes(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(RecipeError, match=f"recipe mine.yaml: {message}"):
        load(tmp_path / "mine.yaml")


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load("smoke").batch = 3


def test_yaml_files_have_no_unknown_or_missing_keys() -> None:
    """A recipe states every value that has no obvious default."""
    for name in names():
        text = (resources.files("pathtrain.recipes") / f"{name}.yaml").read_text()
        stated = yaml.safe_load(text)
        full = load(name).model_dump(mode="json", exclude_none=True)
        assert stated.keys() == full.keys()
        for part in ("model", "views", "dino", "optim"):
            assert stated[part].keys() == full[part].keys()


def test_entries_are_changed_and_added_by_their_number() -> None:
    first = "probes.0={kind: collapse, every: 10}"
    recipe = load("smoke", [first, "probes.0.every=20", "probes.1={kind: collapse, name: more, every: 5}"])
    assert [(probe.key, probe.every) for probe in recipe.probes] == [("collapse", 20), ("collapse_more", 5)]


@pytest.mark.parametrize(("every", "count"), [(7, 1), (0, 0)])
def test_recipes_of_before_are_read(every: int, count: int, tmp_path: Path) -> None:
    values = yaml.safe_load(dump(load("smoke")))
    del values["probes"]
    values["collapse"] = {"every": every, "dataset": None, "slides": 3, "tiles": 9}
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(values))
    new = [f"probes=[{{kind: collapse, every: {every}, slides: 3, tiles: 9}}]"] if count else []
    recipe = load(tmp_path / "old.yaml")
    assert recipe == load("smoke", new)
    assert len(recipe.probes) == count
    values["collapse"]["tile"] = 1
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(values))
    if count:
        with pytest.raises(RecipeError, match=r"probes\.0\.tile: no such key"):
            load(tmp_path / "old.yaml")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.kwargs.checkpoint_path=evil.pth", "model.kwargs: 'checkpoint_path' is not passed to timm"),
        ("model.kwargs.pretrained_cfg={file: evil.pth}", "model.kwargs: 'pretrained_cfg' is not passed"),
        ("model.kwargs.scriptable=true", "model.kwargs: 'scriptable' is not passed to timm"),
        ("model.kwargs.features_only=true", "model.kwargs: 'features_only' is not passed to timm"),
        ("model.kwargs.norm_layer=os.system", "model.kwargs: norm_layer is not one of timm's words"),
        ("model.kwargs.depth=10000000000", "model.kwargs: depth is beyond 1,000"),
        ("model.name=hf_hub:someone/model", "model.name: 'hf_hub:someone/model' is no name of a timm"),
        ("model.name=local-dir:/tmp/model", "model.name: 'local-dir:/tmp/model' is no name of a timm"),
    ],
)
def test_a_recipe_asks_timm_for_shapes_alone(setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load("smoke", [setting])
