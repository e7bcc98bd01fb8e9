"""Opening a model, whatever it is given as.

    runs/smoke                        a run: the teacher's backbone of its newest intact checkpoint
    model                             a folder of `pathtrain export`, or as timm or transformers write it
    uni2-h                            a public encoder by its name (`pathtrain models`); public:uni2-h means
                                      it even where a folder is called so
    hf-hub:OWNER/NAME[@REVISION]      a repository of the Hugging Face hub
    timm:NAME[.TAG], NAME[.TAG]       weights that timm knows

A run and its export give the same weights, hence the same fingerprint and the same features.
"""

import logging
import os
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from pathprep.errors import UsageError
from pathtrain.errors import NoModelError
from pathtrain.models.folder import CONFIG_FILE, CREATOR, WEIGHTS_FILE, is_model, read_config
from pathtrain.models.public import registry
from pathtrain.runs import exported, public, trained
from pathtrain.runs.finishing import with_readout
from pathtrain.runs.meant import Meant, meant, of_folder
from pathtrain.runs.model import LoadedModel, Model
from pathtrain.runs.variants import started, untrained

log = logging.getLogger(__name__)
WORDS = ("trained", "start", "random")


def opened(
    model: Model, weights: str | Path | None = None, readout: str | None = None, seed: int = 1
) -> LoadedModel:
    """A model, opened if it is a place or a name.

    Args:
        weights: ``trained`` or None, its own; ``start``, what a run began with; ``random`` ones; or a file of
            the weights of a public encoder, for machines without internet.
        readout: see pathtrain.models.readouts; None: the published one.
        seed: of random weights; not the run's own, if it began with random weights.

    Raises:
        UsageError: the weights do not go with the model, or it has no such read-out.
        ModelError, CheckpointError: as ``load``.
    """
    weights = "trained" if weights is None else str(weights)
    if isinstance(model, LoadedModel):
        found = _other(model, weights, seed)
    else:
        found = _open(model, weights, seed)
    return found if readout is None else with_readout(found, readout)


def load(path: str | Path, weights: str | Path | None = None, readout: str | None = None) -> LoadedModel:
    """Open a run folder (the teacher's backbone), an exported folder or a public encoder; it is on the CPU.

    Args:
        path: see the module's text: ``"runs/smoke"``, ``"uni2-h"``, ``"hf-hub:OWNER/NAME"``.
        weights: a file of a public encoder's weights, for machines without internet.
        readout: see pathtrain.models.readouts; None: the published one, of a run the one it trained with.

    Raises:
        ModelError: it is none of these, or its weights or target are damaged or do not fit.
        CheckpointError: the run has no intact checkpoint.
        RecipeError: the run's recipe cannot be read.
    """
    return opened(path, weights, readout)


def _open(model: str | Path, weights: str, seed: int) -> LoadedModel:
    path, name = Path(model), str(model)
    place = _place(path)
    if place is None:
        known = meant(name)
        if known is None:
            raise NoModelError(_nothing(path, name))
        return _public(known, weights, seed)
    if registry.entry(name) is not None:
        log.warning(
            "%s: the folder of that name is opened; public:%s is the public encoder", name, name.lower()
        )
    if isinstance(place, Meant):
        return _public(place, str(path) if weights == "trained" else weights, seed)
    return _other(place, weights, seed)


def _place(path: Path) -> LoadedModel | Meant | None:
    """What a folder holds; None if it is none, or no model."""
    if (path / "recipe.yaml").is_file() and not is_model(path):
        return trained.newest(path)
    if not (path / CONFIG_FILE).is_file():
        return None
    values = read_config(path)
    foreign = values.keys() & {"architecture", "model_type"} and values.get("creator") != CREATOR
    if is_model(path) and not foreign:
        return exported.read(path)
    return of_folder(path, str(path), path.resolve().name)


def _public(known: Meant, weights: str, seed: int) -> LoadedModel:
    if weights == "start":
        raise UsageError(f"`weights` start: what {known.name} began with is not known; it is for runs")
    if weights == "random":
        return public.open_random(known, seed)
    found = public.open_public(known, None if weights == "trained" else Path(weights))
    if found.licence and os.environ.get("RANK", "0") == "0":  # once, of all processes
        log.info("%s: licence %s", found.name, found.licence)
    return found


def _other(model: LoadedModel, weights: str, seed: int) -> LoadedModel:
    """A model that is open with the weights that are asked for."""
    if weights == "trained":
        return model
    if weights == "start":
        return started(model)
    if weights != "random":
        raise UsageError(
            f"`weights` {weights}: {model.name} has its own; a file is for public encoders, and for it "
            "`weights` is trained, start or random"
        )
    if model.start is not None and (model.start.init, model.start.seed) == ("random", seed):
        raise UsageError(f"`seed` {seed}: with it the run began; give another, or `weights` start")
    return untrained(model, seed)


def _nothing(path: Path, name: str) -> str:
    similar = registry.similar(name.removeprefix("public:")) or get_close_matches(name, _of_timm(), 3)
    hint = f"; is it {' or '.join(similar)}?" if similar and "/" not in name else ""
    return (
        f"{path}: neither a run (recipe.yaml and checkpoints/, from `pathtrain pretrain`) "
        f"nor an exported model ({CONFIG_FILE} and {WEIGHTS_FILE}, from `pathtrain export`), nor a public "
        f"encoder (`pathtrain models` lists them){hint}"
    )


@cache
def _of_timm() -> list[str]:
    import timm

    return list(timm.list_models())
