"""Where a backbone's first weights come from: what a recipe's ``model.init`` names.

    random                 none: the architecture's own initialisation
    imagenet               timm's default weights of the architecture
    timm:NAME.TAG          weights that timm knows by that tag, such as timm:vit_base_patch16_224.dino
    run:FOLDER[@STEP]      another run, with heads and centre (pathtrain.runs.warm_start)
    a path                 a .safetensors or .pth file, or a folder of `pathtrain export`

Weights go with the mean and SD that their images were normalised with; ``misfit`` compares them with the
recipe's, where they are known.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HTTPError  # type: ignore[attr-defined]
from safetensors.torch import load_file
from timm.models import load_state_dict_from_hf
from timm.models._hub import hf_split

from pathtrain.errors import ModelError
from pathtrain.models.folder import CONFIG_FILE, read_config, read_weights
from pathtrain.recipes.recipe import RUN, TIMM, ModelConfig

State = dict[str, torch.Tensor]
ANSWER_S = 10  # seconds that the hub may take to answer
SAME = 1e-3  # of mean and SD: less is how they were rounded


@dataclass(frozen=True)
class Colours:
    """The mean and SD, per channel of 0 to 1, that images were normalised with."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        return f"mean {list(self.mean)} and std {list(self.std)}"

    def near(self, other: "Colours") -> bool:
        """Whether they are the same but for rounding."""
        pairs = zip((*self.mean, *self.std), (*other.mean, *other.std), strict=True)
        return all(abs(one - two) < SAME for one, two in pairs)


def read(model: ModelConfig) -> State | None:
    """The weights that ``model.init`` names; None for random ones.

    Raises:
        ModelError: they cannot be had; or they are another run's, which is more than a backbone.
    """
    if model.init == "random":
        return None
    if model.init.startswith(RUN):
        raise ModelError(
            f"model.init: {model.init} is a run, of which training takes heads and centre too; "
            "pathtrain.runs.warm_start opens it"
        )
    config = _timm(model)
    if config is None:
        return _from_path(Path(model.init))
    try:
        _find(config.hf_hub_id)
        return cast(State, load_state_dict_from_hf(config.hf_hub_id, weights_only=True))
    except (OSError, HTTPError) as error:  # what a download raises, by the version of the hub's client
        raise ModelError(
            f"model.init: {said(model)} cannot be fetched ({first_line(error)}); fetch "
            f"model.safetensors of {config.hf_hub_id} elsewhere and give it: model.init=/path/to/file"
        ) from None


def said(model: ModelConfig) -> str:
    """What messages call the first weights."""
    return f"imagenet weights of {model.name}" if model.init == "imagenet" else model.init


def misfit(model: ModelConfig, learnt: Colours | None = None) -> str | None:
    """What is to be said where first weights have learnt with another mean or SD than the recipe has.

    Args:
        learnt: those of the weights; None looks them up: of a tag in timm, of an exported folder in its
            config.json. A bare file has none, and nothing is said.

    Returns:
        A sentence that names both and the keys to set; None if they agree or are not known.
    """
    learnt = learnt or colours(model)
    if learnt is None or learnt.near(Colours(model.mean, model.std)):
        return None
    return (
        f"model.init: {said(model)} learnt with {learnt}, the recipe has {Colours(model.mean, model.std)}: "
        "its first layer would see other colours than it knows. Set "
        f"model.mean={list(learnt.mean)} model.std={list(learnt.std)}, or start from other weights"
    )


def colours(model: ModelConfig) -> Colours | None:
    """Mean and SD of the weights that ``model.init`` names, where they are written down."""
    if model.init == "random" or model.init.startswith(RUN):
        return None
    config = _timm(model)
    if config is not None:
        return Colours(config.mean, config.std)
    if not (Path(model.init) / CONFIG_FILE).is_file():
        return None
    found = _of_folder(Path(model.init))
    try:
        shown = found["pretrained_cfg"]
        return Colours(tuple(map(float, shown["mean"])), tuple(map(float, shown["std"])))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"model.init: {Path(model.init) / CONFIG_FILE} is damaged ({first_line(error)}); export it again"
        ) from None


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _timm(model: ModelConfig) -> Any:
    """timm's configuration of the weights; None where ``init`` names a file.

    Raises:
        ModelError: it has none of that name, or they are another architecture's.
    """
    if model.init == "imagenet":
        config = timm.get_pretrained_cfg(model.name, allow_unregistered=False)
        if config is None or not config.hf_hub_id:
            raise ModelError(
                f"model.init: timm has no imagenet weights of {model.name}; give random or a file"
            )
        return config
    if not model.init.startswith(TIMM):
        return None
    name = model.init.removeprefix(TIMM)
    architecture, _, tag = name.partition(".")
    own = model.name.partition(".")[0]
    if not timm.is_model(architecture):
        raise ModelError(f"model.init: timm knows no architecture {architecture}; is it {TIMM}{own}.TAG?")
    if architecture != own:
        raise ModelError(
            f"model.init: {model.init} is of {architecture}, model.name is {model.name}; make them equal"
        )
    tags = sorted(full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*"))
    if tag not in tags:
        raise ModelError(
            f"model.init: timm has no weights {tag or 'without a tag'} of {architecture}; "
            f"its tags: {', '.join(tags) or 'none'}"
        )
    config = timm.get_pretrained_cfg(name)
    if not config.hf_hub_id:
        raise ModelError(f"model.init: {model.init} is not on the hub; fetch {config.url} and give the file")
    return config


def _find(hub_id: str) -> None:
    """Ask once for weights that are not in the cache; the hub's client asks for minutes if nobody answers."""
    repository, revision = hf_split(hub_id)
    names = ("model.safetensors", "pytorch_model.bin")
    if any(isinstance(try_to_load_from_cache(repository, name, revision=revision), str) for name in names):
        return
    with suppress(EntryNotFoundError):  # there under the other name
        get_hf_file_metadata(hf_hub_url(repository, names[0], revision=revision), timeout=ANSWER_S)


def _of_folder(folder: Path) -> dict[str, Any]:
    """config.json of an exported folder."""
    try:
        return read_config(folder)
    except ModelError as error:
        raise ModelError(f"model.init: {error}") from None


def _from_path(path: Path) -> State:
    """The weights of a file, or of an exported folder."""
    if (path / "recipe.yaml").is_file():
        raise ModelError(f"model.init: {path} is a run; start from it with model.init={RUN}{path}")
    if not path.is_dir():
        return _from_file(path)
    config = _of_folder(path) if (path / CONFIG_FILE).is_file() else {}
    try:
        return read_weights(path, config)
    except ModelError as error:
        raise ModelError(f"model.init: {error}") from None


def _from_file(path: Path) -> State:
    """The state dict in a .safetensors file or a torch checkpoint."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ModelError(f"model.init: {path} is no file")
    try:
        if path.suffix == ".safetensors":
            return cast(State, load_file(path))
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged pickle or archive anything may come
        raise ModelError(f"model.init: {path} cannot be read: {first_line(error)}") from None
    for key in ("teacher", "student", "state_dict", "model"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    # pathtrain's own checkpoints nest once more
    if isinstance(value, dict) and isinstance(value.get("backbone"), dict):
        value = value["backbone"]
    if not isinstance(value, dict) or not all(isinstance(v, torch.Tensor) for v in value.values()):
        raise ModelError(f"model.init: {path} holds no state dict")
    return cast(State, value)
