"""Where a backbone's first weights come from: what a recipe's ``model.init`` names.

    random                    none: the architecture's own initialisation
    imagenet                  timm's default weights of the architecture
    timm:NAME.TAG             weights that timm knows by that tag, such as timm:vit_base_patch16_224.dino
    hf:OWNER/NAME[@REVISION]  a repository of the Hugging Face hub, as timm or transformers write it
    run:FOLDER[@STEP]         another run, with heads and centre (pathtrain.runs.warm_start)
    a path                    a .safetensors or .pth file; or a folder of `pathtrain export`, or one that was
                              fetched from the hub

Layouts of files are known by their keys (pathtrain.models.layouts). Weights go with the mean and SD that
their images were normalised with; ``misfit`` compares them with the recipe's, where they are known.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
from timm.models import load_state_dict_from_hf
from timm.models._hub import hf_split

from pathtrain.errors import ModelError
from pathtrain.models import layouts, weight_files
from pathtrain.models.folder import CONFIG_FILE, read_config
from pathtrain.models.public import registry
from pathtrain.models.weight_files import State, first_line
from pathtrain.recipes.model import HUB, RUN, TIMM, ModelConfig

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
        folder = _place(model)
        try:
            return weight_files.read(folder)
        except ModelError as error:
            raise ModelError(f"model.init: {error}") from None
    try:
        weight_files.find(*hf_split(config.hf_hub_id))
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
    folder = _place(model)
    try:
        shown = weight_files.colours(folder)
        return None if shown is None else Colours(*(tuple(map(float, values)) for values in shown))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"model.init: {folder / CONFIG_FILE} is damaged ({first_line(error)}); export or fetch it again"
        ) from None
    except ModelError as error:
        raise ModelError(f"model.init: {error}") from None


def digest(model: ModelConfig) -> str | None:
    """The hash of the files that ``model.init`` names; None where it names no files, or they are gone.

    Raises:
        ModelError: a repository of the hub cannot be fetched.
    """
    if model.init == "random" or model.init.startswith(RUN) or _timm(model) is not None:
        return None
    return weight_files.digest(_place(model))


def positions(model: ModelConfig) -> str:
    """How positions were resampled when the first weights were trained, as a recipe's ``model.positions``.

    Raises:
        ModelError: the weights cannot be had, or it is not known.
    """
    known = written_positions(model)
    if known is not None:
        return known
    state = read(model)
    laid = None if state is None else layouts.read(state)
    if laid is not None and (laid.layout != "timm" or "dinov2" in model.name):
        return "registers" if laid.registers else "hub"
    raise ModelError(
        f"model.positions: auto knows no scheme for {said(model)}; give once, or hub or registers if they "
        "were trained like DINOv2's"
    )


def written_positions(model: ModelConfig) -> str | None:
    """How an exported folder says that its positions were resampled; None of all else."""
    if not (Path(model.init) / CONFIG_FILE).is_file():
        return None
    known = read_config(Path(model.init)).get("positions")
    return known if isinstance(known, str) else None


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


def _place(model: ModelConfig) -> Path:
    """The file or folder that ``init`` names; a repository is fetched first.

    Raises:
        ModelError: it cannot be; or it is a run.
    """
    if model.init.startswith(HUB):
        return _of_hub(model.init)
    path = Path(model.init)
    if (path / "recipe.yaml").is_file():
        raise ModelError(f"model.init: {path} is a run; start from it with model.init={RUN}{path}")
    return path


def _of_hub(init: str) -> Path:
    repository, _, revision = init.removeprefix(HUB).partition("@")
    try:
        name = registry.of_hub(repository)
        file = None if name is None else registry.entries()[name].file
        return weight_files.fetched(repository, revision or None, file)
    except ModelError as error:
        raise ModelError(f"model.init: {error}") from None
    except (OSError, HTTPError, ValueError) as error:  # ValueError: it is no repository's name
        raise ModelError(
            f"model.init: {init} cannot be fetched ({first_line(error)}); fetch {repository} elsewhere (hf "
            f"download {repository} --local-dir FOLDER) and give the folder: model.init=/path/to/FOLDER"
        ) from None
