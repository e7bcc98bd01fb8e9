"""A run that starts from a public encoder by its name: ``model.init: uni2-h``, or ``hf-hub:OWNER/NAME``.

The recipe keeps saying which architecture is trained, so that a run can be read without the registry; what of
it is not the encoder's is refused, with the line that sets it.
"""

import logging
from pathlib import Path
from typing import Any

import yaml

from pathprep.errors import UsageError
from pathtrain.errors import ModelError
from pathtrain.models.first_weights import Colours
from pathtrain.models.networks import NETWORKS
from pathtrain.models.public import registry
from pathtrain.models.public.schema import Entry
from pathtrain.recipes.model import HUB, TIMM, ModelConfig
from pathtrain.runs.meant import HUB as HUBS
from pathtrain.runs.meant import PUBLIC, of_entry

log = logging.getLogger(__name__)


def named(model: ModelConfig, weights: Path | None) -> ModelConfig:
    """The model with ``init`` as pathtrain.models.first_weights takes it; of anything else as it is.

    Args:
        weights: a file of the public encoder's weights, for machines without internet.

    Raises:
        UsageError: weights are given, and ``init`` names no public encoder.
        ModelError: the recipe's architecture or normalisation is another one than the encoder's; or its
            weights are nowhere that is known.
    """
    init = model.init
    prefix = next((each for each in HUBS if init.startswith(each)), None)
    repository, _, revision = init.removeprefix(prefix or "").partition("@")
    name = registry.of_hub(repository) if prefix else init.removeprefix(PUBLIC)
    entry = None if name is None else registry.entry(name)
    if entry is not None and prefix is None and not init.startswith(PUBLIC) and Path(init).exists():
        entry = None  # a file or folder of that name, as model.init always took it
    if entry is None:
        if init.startswith(PUBLIC):
            raise ModelError(f"model.init: {init}: no such public encoder; `pathtrain models` lists them")
        if weights is not None:
            raise UsageError(
                f"`weights` {weights}: is for a model.init that names a public encoder, not for {init}; a "
                f"file alone is model.init={weights}"
            )
        if prefix in (None, HUB):
            return model
        return model.model_copy(update={"init": f"{HUB}{init.removeprefix(prefix)}"})
    assert name is not None
    _compare(model, name.lower(), entry)
    if weights is not None and not weights.exists():
        raise ModelError(f"model.init: {init}: {weights}: no such file")
    if weights is None and entry.hub is None:
        raise ModelError(
            f"model.init: {init}: its weights are not on the Hugging Face hub; fetch them from {entry.url} "
            "and give the file: `weights` FILE"
        )
    place = f"{HUB}{entry.hub}" + (f"@{revision}" if revision else "") if weights is None else str(weights)
    if weights is None and entry.hub is not None and entry.hub.startswith("timm/"):
        place = f"{TIMM}{entry.hub.removeprefix('timm/')}"
    log.info("%s: licence %s", name.lower(), of_entry(name.lower(), entry).licence)
    positions = entry.positions if model.positions == "auto" else model.positions
    return model.model_copy(update={"init": place, "positions": positions})


def _compare(model: ModelConfig, name: str, entry: Entry) -> None:
    if entry.timm in NETWORKS or not entry.timm.startswith("vit_"):
        raise ModelError(
            f"model.init: {name} ({entry.network}) is for features alone: training needs a plain vision "
            "transformer"
        )
    # another grid than the weights' is resampled
    wanted = {key: value for key, value in entry.arguments.items() if key != "img_size"}
    has = {key: value for key, value in model.kwargs.items() if key != "img_size"}
    taught, given = Colours(entry.mean, entry.std), Colours(model.mean, model.std)
    same = model.name == entry.timm and {key: has.get(key) for key in wanted} == wanted
    if same and taught.near(given):
        return
    shown = {**model.kwargs, **wanted} if same else {**_grid(model), **wanted}
    # YAML's own numbers: to it 1e-05 is a word
    kwargs = yaml.safe_dump(shown, default_flow_style=True, sort_keys=False, width=10_000).strip()
    values: dict[str, Any] = {
        "model.name": entry.timm,
        "model.kwargs": f"'{kwargs}'",
        "model.mean": f"'{list(entry.mean)}'",
        "model.std": f"'{list(entry.std)}'",
    }
    line = " ".join(f"--set {key}={value}" for key, value in values.items())
    raise ModelError(
        f"model.init: {name} is another network than the recipe's, or saw other colours; give {line}"
    )


def _grid(model: ModelConfig) -> dict[str, Any]:
    return {key: value for key, value in model.kwargs.items() if key == "img_size"}
