"""Exported models on disk: reading what `pathtrain export` wrote, and not what has become of it since.

config.json is sealed (pathprep.storage.seals) and holds the SHA-256 of the weights. Exports before version 2
have neither; folders that timm wrote itself have no version at all. Both are read as they are.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse

from pathprep.storage import regular
from pathprep.storage.seals import Seal, is_whole, seal_of
from pathtrain.errors import ModelError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
FILES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)
CREATOR = "pathtrain"
VERSION, SEALED_SINCE = 2, 2
AGAIN = "copy it again from where it came, or export the model again"


def is_model(folder: Path) -> bool:
    """Whether there are both files that a model is."""
    return (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()


def read_bytes(path: Path) -> bytes:
    """A file of a model.

    Raises:
        ModelError: it cannot be read, which is not that it is damaged.
    """
    try:
        return regular.read(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; {AGAIN}") from None
    except OSError as error:
        fix = "have the right to read it given to you" if isinstance(error, PermissionError) else "try again"
        raise ModelError(f"{path}: {error.strerror}; {fix}") from None


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json holds, as it was written.

    Raises:
        ModelError: it cannot be read, is no configuration of timm's, or is damaged.
    """
    path = folder / CONFIG_FILE
    try:
        found = json.loads(read_bytes(path))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: not a timm model configuration; export the model again")
    if not is_whole(found, SEALED_SINCE):
        what = "is gone" if seal_of(found) is Seal.NONE else "differs"
        raise ModelError(f"{path}: damaged (its seal {what}); {AGAIN}")
    return found


def read_weights(folder: Path, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The state dict of model.safetensors.

    Args:
        config: of ``read_config``.

    Raises:
        ModelError: it cannot be read, or its bytes are not those that were exported.
    """
    path = folder / WEIGHTS_FILE
    data = read_bytes(path)
    written = recorded(config).get(WEIGHTS_FILE)
    if written is not None and hashlib.sha256(data).hexdigest() != written:
        raise ModelError(f"{path}: damaged (its SHA-256 differs); {AGAIN}")
    try:
        return cast(dict[str, torch.Tensor], parse(data))
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError, OverflowError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: damaged ({line}); {AGAIN}") from None


def recorded(config: dict[str, Any]) -> dict[str, str]:
    """The SHA-256 of the folder's other files, by their names; none in exports before version 2."""
    files = config.get("files")
    if not isinstance(files, dict):
        return {}
    return {str(name): str(sha256) for name, sha256 in files.items()}
