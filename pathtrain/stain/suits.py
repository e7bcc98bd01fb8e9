"""Whether data serves what a recipe does to stain, and what of that is left to do."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Protocol

from pathprep.mixed.reader import MixedDataset
from pathprep.stain import Target
from pathtrain.errors import TrainError
from pathtrain.recipes.recipe import StainConfig


class Stained(Protocol):
    """Tiles that were stored; a dataset and mixed shards are.

    Attributes:
        root: where, for messages.
        params: ``stain`` says how their stain was treated.
    """

    @property
    def root(self) -> PurePath: ...

    params: dict[str, Any]


def check(data: Sequence[Stained], config: StainConfig, target: Target | None) -> StainConfig:
    """Refuse stain settings that the tiles cannot serve.

    Args:
        data: one or several, that agree in how their stain was treated.
        target: what ``normalize`` goes to (pathtrain.stain.target.settle).

    Returns:
        What is left to do: tiles that were normalised to ``target`` when they were stored need it no more,
        and jitter then acts on the stains that they have.

    Raises:
        TrainError: plain tiles where normalised ones are expected, tiles that are normalised to another
            target, or tiles without the fits that are needed.
    """
    left = [_checked(each, config, target) for each in data]
    return left[0]


def _checked(data: Stained, config: StainConfig, target: Target | None) -> StainConfig:
    if config.expect == "normalised" and config.mode != "normalize" and not _baked(data):
        raise TrainError(_plain(data))
    made = data.params["stain"]
    if config.mode == "normalize" and made["mode"] == "bake":
        if target is None or made["target"] != target.as_params():
            raise TrainError(
                f"{data.root}: its tiles are already normalised, to another target (`{_maker(data)} --stain "
                "bake`); use stain.mode=none, name that target with stain.target, or make it again with "
                "`--stain fit`"
            )
        config = config.model_copy(update={"mode": "jitter" if config.jitters else "none", "target": None})
    if not config.needs_fits or config.fit == "load":
        return config
    if made["mode"] == "none" or (made["mode"] == "bake" and isinstance(data, MixedDataset)):
        other = ", or stain.basis=hed" if config.mode == "jitter" else ""
        raise TrainError(
            f"{data.root}: holds no stain fits, which stain.mode={config.mode} needs; use stain.fit=load, "
            f"which fits each tile when it is read{other}, or make it again with "
            f"`{_maker(data)} --stain fit`"
        )
    return config


def _baked(data: Stained) -> bool:
    """Whether all tiles were normalised when they were stored."""
    if isinstance(data, MixedDataset):
        return all(source["params"]["stain"]["mode"] == "bake" for source in data.info["sources"])
    return bool(data.params["stain"]["mode"] == "bake")


def _plain(data: Stained) -> str:
    """The refusal of plain tiles, with the ways out that there are for this data."""
    how = "stain.mode=normalize" + ("" if data.params["stain"]["mode"] == "fit" else " stain.fit=load")
    mix = ", and mix it again" if isinstance(data, MixedDataset) else ""
    return (
        f"{data.root}: its tiles are not normalised, which the recipe expects (stain.expect: normalised); "
        f"make it again with `{_maker(data)} --stain bake`{mix}, or set {how}, which normalises each tile "
        "when it is read; stain.expect=any trains on plain tiles"
    )


def _maker(data: Stained) -> str:
    """The command that makes such data."""
    sources = data.info["sources"] if isinstance(data, MixedDataset) else [{"params": data.params}]
    imported = any(source["params"].get("kind") == "tiles" for source in sources)
    return "pathprep import-tiles" if imported else "pathprep shard"
