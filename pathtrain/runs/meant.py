"""What the name of a public encoder means: of the registry, of a repository of the hub, or of timm.

uni2-h, public:uni2-h             the registry's (pathtrain.models.public)
hf-hub:OWNER/NAME[@REVISION]      a repository; of one that the registry knows, what it says
timm:NAME[.TAG], NAME[.TAG]       timm's
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm

from pathtrain.errors import ModelError
from pathtrain.models import weight_files
from pathtrain.models.folder import CONFIG_FILE, read_config
from pathtrain.models.hub_errors import explained
from pathtrain.models.public import registry
from pathtrain.models.public.schema import Entry
from pathtrain.models.transformers_config import described
from pathtrain.recipes.model import IMAGENET_MEAN, IMAGENET_STD, TIMM, ModelConfig

OURS = ("num_classes", "dynamic_img_size")  # arguments that are set here
HUB, PUBLIC = ("hf-hub:", "hf_hub:", "hf:"), "public:"


@dataclass(frozen=True)
class Meant:
    """A public encoder before its weights.

    Attributes:
        name: what tables call it. origin: what it is called by in full.
        config: its architecture.
        size: side of the images that it takes, pixels.
        readout: that its authors use; None: the network's own.
        mpps: micrometres a pixel that it was trained at.
        licence: of its weights, and where it is written.
        repository, revision: of the hub. file: of the repository, where it is none of the usual names.
        url: where the weights are, where they are on no hub.
        gated: whether terms must be accepted first.
        epsilon: of its norms, where timm's is another.
    """

    name: str
    origin: str
    config: ModelConfig
    size: int
    readout: str | None = None
    mpps: tuple[float, ...] = ()
    licence: str | None = None
    repository: str | None = None
    revision: str | None = None
    file: str | None = None
    url: str | None = None
    gated: bool = False
    epsilon: float | None = None


def meant(name: str) -> Meant | None:
    """What a name stands for; None if it is nobody's.

    Raises:
        ModelError: a repository cannot be fetched, or holds no model that is known.
    """
    known = registry.entry(name.removeprefix(PUBLIC))
    if known is not None:
        return of_entry(name.removeprefix(PUBLIC).lower(), known)
    if name.startswith(PUBLIC):
        return None
    prefix = next((each for each in HUB if name.startswith(each)), None)
    if prefix is not None:
        repository, _, revision = name.removeprefix(prefix).partition("@")
        found = registry.of_hub(repository)
        if found is not None:
            return replace(of_entry(found, registry.entries()[found]), revision=revision or None)
        return _of_hub(repository, revision or None)
    return _of_timm(name.removeprefix(TIMM)) if timm.is_model(name.removeprefix(TIMM)) else None


def of_entry(name: str, entry: Entry) -> Meant:
    """What the registry says."""
    config = ModelConfig(
        name=entry.timm,
        kwargs=entry.arguments,
        init=f"{PUBLIC}{name}",
        mean=entry.mean,
        std=entry.std,
        positions=entry.positions,
    )
    terms = {True: ", commercial use allowed", False: ", no commercial use", None: ""}[entry.commercial]
    return Meant(
        name=name,
        origin=name,
        config=config,
        size=entry.size,
        readout=entry.readout,
        mpps=entry.mpp,
        licence=f"{entry.licence}{terms} ({entry.place})",
        repository=entry.hub,
        file=entry.file,
        url=entry.url,
        gated=entry.gated,
        epsilon=entry.epsilon,
    )


def of_folder(folder: Path, origin: str, name: str) -> Meant:
    """What config.json of timm's or transformers' says, as hub repositories have it.

    Raises:
        ModelError: it is of neither, or damaged.
    """
    values = read_config(folder)
    try:
        colours = weight_files.colours(folder)
        mean, std = colours or (IMAGENET_MEAN, IMAGENET_STD)
        taught = {"mean": tuple(map(float, mean)), "std": tuple(map(float, std))}
        if "architecture" not in values:
            found = described(values, origin)
            config = ModelConfig.model_validate({**found.config.model_dump(), **taught})
            size = weight_files.crop(folder) or int(config.kwargs["img_size"])
            return Meant(name, origin, config, size, "cls", epsilon=found.epsilon)
        shown = values.get("pretrained_cfg", values)  # timm's first form has all in one
        arguments = _arguments(values.get("model_args", {}))
        config = ModelConfig.model_validate(
            {
                "name": values["architecture"],
                "kwargs": arguments,
                "init": origin,
                "positions": "registers",
                **taught,
            }
        )
        side = arguments.get("img_size", 224)
        side = side[0] if isinstance(side, list | tuple) else side
        size = int(shown.get("input_size", (3, side, side))[1])
        return Meant(name, origin, config, size, licence=shown.get("license"))
    except ModelError as error:
        raise ModelError(f"{folder / CONFIG_FILE}: {error}") from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        said = weight_files.first_line(error)
        raise ModelError(
            f"{folder / CONFIG_FILE}: no configuration of timm or transformers ({said})"
        ) from None


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Of timm's, but what is set here, or says nothing: three channels, and that tokens are not pooled."""
    if given.get("in_chans", 3) != 3:
        raise ModelError(f"its images have {given['in_chans']} channels; tiles have 3")
    found = {key: value for key, value in given.items() if key not in (*OURS, "in_chans")}
    if found.get("global_pool") == "":
        del found["global_pool"]
    return found


def _of_hub(repository: str, revision: str | None) -> Meant:
    origin = f"{HUB[0]}{repository}" + (f"@{revision}" if revision else "")
    try:
        folder = weight_files.described(repository, revision)
    except Exception as error:
        raise explained(error, repository, None, f"{origin}: ") from None
    found = of_folder(folder, origin, repository.rpartition("/")[2])
    return replace(found, repository=repository, revision=revision)


def _of_timm(name: str) -> Meant:
    known: Any = timm.get_pretrained_cfg(name, allow_unregistered=True)
    taught: dict[str, Any] = {} if known is None else {"mean": known.mean, "std": known.std}
    config = ModelConfig.model_validate(
        {"name": name.partition(".")[0], "init": f"{TIMM}{name}", "positions": "registers", **taught}
    )
    tag = known.tag if known is not None and known.tag else ""
    repository = known.hf_hub_id if known is not None else None
    return Meant(
        name=name,
        origin=f"{TIMM}{name.partition('.')[0]}" + (f".{tag}" if tag else ""),
        config=config,
        size=224 if known is None else int(known.input_size[1]),
        licence=f"{known.license} ({repository})" if known is not None and known.license else None,
        repository=repository,
        file=None if known is None else known.hf_hub_filename,
        url=None if known is None else known.url,
    )
