"""A recipe's new keys: runs that were begun before them go on."""

from pathtrain.recipes.load import load
from pathtrain.recipes.older import SINCE
from pathtrain.runs.identity import FREE, FREE_OF_MODEL, TRAINING, flat

# What the identity of a run of smoke had when the version of training became 3
KEYS_OF_3 = """
    batch dino.center_momentum dino.drop_path dino.freeze_last_layer_steps dino.head.bottleneck_dim
    dino.head.hidden_dim dino.head.layers dino.head.norm_last_layer dino.head.out_dim
    dino.momentum.end dino.momentum.start dino.student_temp dino.teacher_temp.end
    dino.teacher_temp.start dino.teacher_temp.steps epochs method model.freeze_patch_embed
    model.init model.kwargs.depth model.kwargs.img_size model.mean model.name model.std optim.betas
    optim.clip optim.layer_decay optim.lr optim.min_lr optim.warmup_steps optim.weight_decay.end
    optim.weight_decay.start precision sampling.by sampling.table sampling.weights seed stain.angle
    stain.basis stain.concentration stain.expect stain.fit stain.mode stain.shift stain.target steps
    views.blur_sigma views.flip views.flip_vertical views.globals.blur views.globals.count
    views.globals.scale views.globals.size views.globals.solarise views.greyscale
    views.jitter.brightness views.jitter.contrast views.jitter.hue views.jitter.p
    views.jitter.saturation views.locals.blur views.locals.count views.locals.scale
    views.locals.size views.locals.solarise views.ratio views.turn
"""


def test_every_key_since_has_the_value_that_changes_nothing() -> None:
    """Else such a run says that it "was started otherwise". A new version may begin a new list."""
    assert TRAINING == 3
    values = {k: v for k, v in load("smoke").model_dump(mode="json").items() if k not in FREE}
    values["model"] = {k: v for k, v in values["model"].items() if k not in FREE_OF_MODEL}
    found = flat(values)
    new = found.keys() - set(KEYS_OF_3.split())
    assert {key: found[key] for key in new} == {key: SINCE.get(key, "is not in SINCE") for key in new}
