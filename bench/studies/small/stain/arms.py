"""Five arms that differ in what is done to stain and in nothing else, and what they are compared with.

    none                  tiles as they are
    Macenko               every tile normalised before its views are cut, as EXAONEPath 1.0 does
    jitter per tile       a tile's own stains changed at random, alike in all its views
    jitter per view       the same, drawn anew for each view, so that DINO has to match two stainings
    Macenko and jitter    normalised, then changed anew for each view

All are the study's recipe with another ``stain``, on the same tiles, for as many steps, from the same first
weights per seed. Encoders that were trained on normalised tiles are tested on normalised tiles; the plain
one, random weights, an ImageNet network and colour on both: what normalising does by itself is the control of
what training on normalised tiles is said to do.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from small.core.config import Study
from small.core.encoders import COLOUR, RANDOM, START, Encoder, beside
from small.core.training import Job
from small.stain.material import NORMALISED, PLAIN, Settings

NONE, MACENKO, TILE, VIEW, BOTH = (
    "none",
    "Macenko",
    "jitter per tile",
    "jitter per view",
    "Macenko and jitter",
)
ARMS = (NONE, MACENKO, TILE, VIEW, BOTH)
ON_NORMALISED = " on normalised tiles"
ON_UNCAST = " without casts"
PAIRS = (
    *((arm, NONE) for arm in ARMS[1:]),
    (NONE + ON_NORMALISED, NONE),  # normalising without training for it
    (MACENKO, NONE + ON_NORMALISED),  # training for it on top
    (MACENKO, RANDOM + ON_NORMALISED),
    (RANDOM + ON_NORMALISED, RANDOM),
    (VIEW, TILE),
    (BOTH, MACENKO),
    (NONE, RANDOM),
    (NONE, COLOUR),
    (MACENKO, COLOUR + ON_NORMALISED),
)


def jobs(study: Study, settings: Settings, training: Path) -> dict[str, list[Job]]:
    """The trainings of each arm, one per seed."""
    jitter = {
        "concentration": settings.jitter,
        "angle": settings.jitter_turn,
        "shift": settings.jitter_shift,
    }
    still = dict.fromkeys(jitter, 0.0)
    arms: dict[str, dict[str, Any]] = {
        NONE: {"mode": "none", **still},
        MACENKO: {"mode": "normalize", **still},
        TILE: {"mode": "jitter", **jitter, "per": "tile"},
        VIEW: {"mode": "jitter", **jitter, "per": "view"},
        BOTH: {"mode": "normalize", **jitter, "per": "view"},
    }
    # whatever the recipe has of its own: the arm says all of it
    rest = {"basis": "fit", "fit": "stored", "p": 1.0, "per": "view", "expect": "any"}
    length = (f"steps={settings.steps}", f"checkpoint.every={settings.steps}")
    found = {}
    for arm, stain in arms.items():
        said = tuple(f"stain.{key}={value}" for key, value in {**rest, **stain}.items())
        found[arm] = [
            Job(
                f"stain-{arm.lower().replace(' ', '-')}-{seed}",
                study.recipe,
                training,
                (*settings.changes, *said, *length, f"seed={seed}"),
            )
            for seed in range(study.common.seeds)
        ]
    return found


def sights(study: Study, arms: Sequence[Encoder]) -> dict[str, list[Encoder]]:
    """The encoders by the tiles that they are tested on, PLAIN and NORMALISED; names say what is unusual."""
    by_name = {arm.name: arm for arm in arms}
    others = [one for one in beside(study, by_name[NONE]) if one.name != START]
    plain = [by_name[NONE], by_name[TILE], by_name[VIEW], *others]
    normalised = [by_name[MACENKO], by_name[BOTH]]
    normalised += [replace(one, name=one.name + ON_NORMALISED) for one in (by_name[NONE], *others)]
    return {PLAIN: list(map(_bare, plain)), NORMALISED: list(map(_bare, normalised))}


def _bare(encoder: Encoder) -> Encoder:
    """Takes tiles as they are: they are normalised already where they shall be."""
    return replace(encoder, models=tuple(replace(model, target=None) for model in encoder.models))
