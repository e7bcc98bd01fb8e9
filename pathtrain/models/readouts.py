"""Read-outs: which of a network's numbers are the features of an image.

    cls        the CLS token after the last norm
    mean       the mean of the patch tokens after it; register tokens are no patches
    cls+mean   both, one behind the other (Vorontsov et al. 2024, Virchow)
    blocks:N   the CLS tokens of the last N blocks, the earliest first, each after the last norm (Oquab et al.
               2024, DINOv2, linear evaluation)
    patches    the patch tokens themselves, (B, P, D), row by row of the image
    pooled     what the network itself makes of its last layer: of convolutions and Swin their mean, of CONCH
               what its query finds

Under autocast the last norm and the means are computed in float32 all the same.
"""

import re
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pathprep.errors import UsageError
from pathtrain.losses.precision import wide

WORDS = "cls, mean, cls+mean, blocks:N, patches or pooled"
_BLOCKS = re.compile(r"blocks:([1-9][0-9]{0,2})")


def check(readout: str) -> str:
    """The read-out.

    Raises:
        UsageError: it is no word of these.
    """
    if readout not in ("cls", "mean", "cls+mean", "patches", "pooled") and not _BLOCKS.fullmatch(readout):
        raise UsageError(f"`readout` {readout!r}: give {WORDS}")
    return readout


def own(network: nn.Module) -> str:
    """What the network gives when it is called: ``cls`` or ``pooled``."""
    if hasattr(network, "tokens"):
        return "cls"
    plain = getattr(network, "global_pool", None) == "token" and getattr(network, "has_class_token", True)
    return (
        "cls" if plain and isinstance(getattr(network, "fc_norm", nn.Identity()), nn.Identity) else "pooled"
    )


def fits(network: nn.Module, readout: str, name: str) -> None:
    """Refuse what a network has not.

    Raises:
        UsageError: it has no such tokens, or fewer blocks.
    """
    check(readout)
    if readout in (own(network), "patches"):
        return
    trunk = _trunk(network)
    if readout == "pooled":
        raise UsageError(
            f"`readout` pooled: {name} pools nothing itself; give cls, mean, cls+mean or blocks:N"
        )
    if not _has_tokens(trunk):
        raise UsageError(f"`readout` {readout}: {name} is no vision transformer; give pooled or patches")
    if readout != "mean" and not _has_class(trunk):
        raise UsageError(f"`readout` {readout}: {name} has no CLS token; give mean, patches or pooled")
    depth, wanted = len(trunk.blocks), _blocks(readout)
    if wanted > depth:
        raise UsageError(f"`readout` {readout}: {name} has {depth} blocks; give blocks:{depth} at most")


def width(network: nn.Module, readout: str) -> int:
    """D: how many numbers a read-out has, of ``patches`` for each patch."""
    trunk = _trunk(network)
    if readout == own(network):
        return int(getattr(network, "head_hidden_size", None) or network.num_features)  # type: ignore[arg-type]
    each = int(trunk.num_features)
    return each * (2 if readout == "cls+mean" else _blocks(readout))


def features(network: nn.Module, images: Tensor, readout: str) -> Tensor:
    """The features of images.

    Args:
        images: (B, 3, H, W), normalised.
        readout: one that ``fits``.

    Returns:
        (B, D), or (B, P, D) of ``patches``; float32 but of what the network pools itself under autocast.
    """
    kind = images.device.type
    reduced = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    trunk = _trunk(network)
    if readout == own(network) and not (reduced and readout == "cls" and _has_tokens(trunk)):
        found: Tensor = network(images)
        return found
    if not _has_tokens(trunk):
        return _grid(trunk.forward_features(images), int(trunk.num_features))
    states = _states(trunk, images, _blocks(readout))
    with torch.autocast(kind, enabled=False) if reduced else nullcontext():
        last = _norm(trunk)
        return _read([last(wide(state)) for state in states], _prefix(trunk), readout)


def _read(states: list[Tensor], prefix: int, readout: str) -> Tensor:
    """What a read-out takes of normed tokens (B, N, D) of blocks, the earliest first."""
    patches = states[-1][:, prefix:]
    if readout == "patches":
        return patches
    if readout == "mean":
        return patches.mean(dim=1)
    if readout == "cls+mean":
        return torch.cat([states[-1][:, 0], patches.mean(dim=1)], dim=1)
    return torch.cat([tokens[:, 0] for tokens in states], dim=1)


def _blocks(readout: str) -> int:
    found = _BLOCKS.fullmatch(readout)
    return 1 if found is None else int(found[1])


def _trunk(network: nn.Module) -> Any:
    """The part that gives tokens: of CONCH its transformer."""
    return getattr(network, "trunk", network)


def _has_tokens(trunk: Any) -> bool:
    """Whether its blocks have tokens (B, N, D), as those of transformers without stages."""
    return hasattr(trunk, "tokens") or (hasattr(trunk, "blocks") and hasattr(trunk, "num_prefix_tokens"))


def _has_class(trunk: Any) -> bool:
    return bool(getattr(trunk, "has_class_token", getattr(trunk, "cls_token", None) is not None))


def _prefix(trunk: Any) -> int:
    """Tokens before the patches: CLS and registers."""
    return int(trunk.num_prefix_tokens)


def _norm(trunk: Any) -> nn.Module:
    """The last norm; timm has it behind the pooling where it takes the mean."""
    last: nn.Module = trunk.norm
    behind = getattr(trunk, "fc_norm", None)
    return behind if isinstance(last, nn.Identity) and isinstance(behind, nn.Module) else last


def _states(trunk: Any, images: Tensor, blocks: int) -> list[Tensor]:
    """All tokens (B, N, D) after each of the last blocks, the earliest first, before the last norm."""
    if hasattr(trunk, "tokens"):
        found: list[Tensor] = trunk.tokens(images, blocks)
        return found
    states = trunk.forward_intermediates(
        images,
        indices=blocks,
        return_prefix_tokens=True,
        norm=False,
        output_fmt="NLC",
        intermediates_only=True,
    )
    return [torch.cat([each[1], each[0]], dim=1) if isinstance(each, tuple) else each for each in states]


def _grid(found: Tensor, channels: int) -> Tensor:
    """(B, P, D) of what convolutions or Swin give: channels first or last."""
    if found.shape[1] == channels:
        return wide(found.flatten(2).transpose(1, 2))
    return wide(found.flatten(1, 2))
