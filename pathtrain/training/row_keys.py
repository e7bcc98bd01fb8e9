"""What the keys of a row of log.jsonl are, in the order of the run's page; the docs list them from here."""

from typing import Any, NamedTuple


class Key(NamedTuple):
    """One of them: a short title, with the unit, and what it is."""

    title: str
    words: str


PLACE = {
    "step": Key("Step", "finished steps of the run"),
    "steps": Key(
        "Steps of the row",
        "how many steps the row is of: all since the row before. Means are over those of them that had the "
        "value, so of objectives in turn each is there",
    ),
}
MEANS = {
    "loss": Key("Loss (nats)", "mean; of several objectives, their weighted sum"),
    "kl": Key(
        "Loss less teacher entropy (nats)",
        "mean; the divergence of the student from the teacher, what is left to learn of what it says now",
    ),
    "teacher_entropy": Key(
        "Teacher entropy (nats)",
        "mean over tiles; how unsure the teacher is of one tile: 0 to the logarithm of the number of outputs",
    ),
    "output_entropy": Key(
        "Entropy of the mean output (nats)",
        "mean over steps; near 0 all tiles have one output, near the teacher's entropy all are told alike",
    ),
    "outputs_used": Key(
        "Outputs in use",
        "mean over steps of the exponential of a step's output entropy; a step shows no more than it has "
        "global views",
    ),
    "feature_rank": Key(
        "Effective rank of features",
        "of the teacher's features of all global views of the row's steps, each of length 1: the "
        "exponential of the entropy of their singular values (Roy and Vetterli 2007; RankMe, Garrido et al. "
        "2023). 1 where all are the same, at most their dimension",
    ),
    "feature_sd": Key(
        "SD of features (1 is evenly spread)",
        "mean over steps of the standard deviation of the teacher's features in a step, each of length 1, "
        "times the square root of their dimension (Chen and He 2021): 0 where all are the same",
    ),
    "regulariser": Key(
        "Regulariser", "mean of what spreads the class tokens, summed over global views, without its weight"
    ),
    "gradient_norm": Key("Gradient norm (before clipping)", "mean of the L2 norm of the whole gradient"),
}
SCHEDULED = {
    "lr": Key("Learning rate", "of the row's last step"),
    "weight_decay": Key("Weight decay", "of the row's last step"),
    "momentum": Key("Teacher momentum", "of the row's last step"),
    "teacher_temp": Key("Teacher temperature", "of the row's last step"),
    "regulariser_weight": Key("Weight of the regulariser", "of the row's last step"),
    "phase": Key("Phase", "of a hierarchical run, from 1; of the row's last step"),
}
SPEED = {
    "images_s": Key(
        "Images per second", "over all devices, since the row before or the start of the command"
    ),
    "mfu": Key("Model FLOP utilisation", "share of the card's peak; null where that is not known"),
    "data_wait": Key("Time waiting for data (share)", "mean over devices"),
    "seconds_step": Key("Seconds per step", "mean"),
}
KEYS = {**PLACE, **MEANS, **SCHEDULED, **SPEED}

# What a row has of every objective that says how far the student is from the teacher
_JUDGED = ("loss", "teacher_entropy", "output_entropy", "outputs_used", "feature_rank", "feature_sd")

OBJECTIVES = {"tile_": "Tiles", "patch_": "Masked patches", "region_": "Regions", "slide_": "Slides"}
_PART, _VALIDATION = "gradient_norm_", "val_"


def of(name: str) -> Key | None:
    """What a key is; None for those of probes, and for what nobody has described."""
    if name in KEYS:
        return KEYS[name]
    if name.startswith(_PART):
        part = name.removeprefix(_PART).replace("_", " ")
        return Key(f"Gradient norm of the {part}", "as `gradient_norm`, of one part of the student")
    if name.startswith(_VALIDATION):
        return Key(
            f"Validation: {name.removeprefix(_VALIDATION).replace('_', ' ')}", "of the validation slides"
        )
    for start, title in OBJECTIVES.items():
        if name.startswith(start) and name.removeprefix(start) in {**MEANS, **SCHEDULED}:
            key = KEYS[name.removeprefix(start)]
            first = key.title[0] if key.title[1].isupper() else key.title[0].lower()  # SD stays SD
            return Key(f"{title}: {first}{key.title[1:]}", key.words)
    return None


def is_number(value: Any) -> bool:
    """Whether it can be counted with: not a truth value; it may be NaN or infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_row(row: Any) -> bool:
    """Whether a line of a log is a row: its step, and what is counted with to judge it (training.health)."""
    if not isinstance(row, dict) or type(row.get("step")) is not int or not 0 <= row["step"] < 2**63:
        return False
    needed = []
    for objective in ("", *OBJECTIVES):
        if f"{objective}kl" in row:
            needed += ["steps", *(f"{objective}{name}" for name in _JUDGED)]
            needed += ["phase"] if objective == "region_" else []
    return all(is_number(row.get(name)) for name in needed)
