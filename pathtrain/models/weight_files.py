"""Files of weights: a file, a folder as `pathtrain export`, timm or transformers write it, or a repository of
the Hugging Face hub, which is such a folder.

Pickled files are read as plain tensors alone (weights_only): they run no code.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor

from pathtrain.errors import ModelError
from pathtrain.models.folder import CONFIG_FILE, WEIGHTS_FILE, read_config, read_weights

State = dict[str, Tensor]
PICKLED, COLOURS_FILE = "pytorch_model.bin", "preprocessor_config.json"
# Of weights in several files: which file has which
INDICES = (f"{WEIGHTS_FILE}.index.json", f"{PICKLED}.index.json")
# In this order, of those that a folder has
NAMES = (WEIGHTS_FILE, INDICES[0], PICKLED, INDICES[1])
ANSWER_S = 10  # seconds that the hub may take to answer


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read(path: Path) -> State:
    """The weights of a file or folder.

    Raises:
        ModelError: there are none, or they are damaged.
    """
    if not path.is_dir():
        return _from_file(path)
    found = next((path / name for name in NAMES if (path / name).is_file()), None)
    if found is None or found.name == WEIGHTS_FILE:  # which is missed by name where there is none
        config = read_config(path) if (path / CONFIG_FILE).is_file() else {}
        return read_weights(path, config)
    state: State = {}
    for part in parts(found):
        state |= _from_file(part)
    return state


def parts(weights: Path) -> list[Path]:
    """The files that an index names, or the one file of weights.

    Raises:
        ModelError: the index is damaged, or names a file elsewhere.
    """
    if weights.name not in INDICES:
        return [weights]
    try:
        names = sorted(set(json.loads(weights.read_bytes())["weight_map"].values()))
        if any(not isinstance(name, str) or Path(name).name != name for name in names):
            raise ValueError("it names a file elsewhere")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{weights}: no index of weights ({first_line(error)}); fetch it again") from None
    return [weights.parent / name for name in names]


def digest(path: Path) -> str | None:
    """SHA-256 of a file of weights, or of the hashes of a folder's; None if there are none."""
    if path.is_dir():
        found = next((path / name for name in NAMES if (path / name).is_file()), None)
        files = [] if found is None else parts(found)
    else:
        files = [path]
    if not files or not all(file.is_file() for file in files):
        return None
    each = [_sha256(file) for file in files]
    return each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest()


def colours(folder: Path) -> tuple[Sequence[Any], Sequence[Any]] | None:
    """Mean and SD that a folder's config.json, as timm's, or preprocessor_config.json names; else None."""
    if (folder / CONFIG_FILE).is_file():
        config = read_config(folder)
        shown = config.get("pretrained_cfg", config)
        if isinstance(shown, dict) and "mean" in shown:
            return shown["mean"], shown["std"]
    if not (folder / COLOURS_FILE).is_file():
        return None
    shown = json.loads((folder / COLOURS_FILE).read_bytes())
    return (shown["image_mean"], shown["image_std"]) if "image_mean" in shown else None


def crop(folder: Path) -> int | None:
    """The side of images that a folder's preprocessor_config.json makes; None if it says none."""
    if not (folder / COLOURS_FILE).is_file():
        return None
    shown = json.loads((folder / COLOURS_FILE).read_bytes())
    key = "crop_size" if shown.get("do_center_crop", "crop_size" in shown) else "size"
    each = shown.get(key)
    side = each.get("height", each.get("shortest_edge")) if isinstance(each, dict) else each
    return side if isinstance(side, int) else None


def find(repository: str, revision: str | None, names: Sequence[str] = NAMES) -> None:
    """Ask once for files that are not in the cache; the hub's client asks for minutes if nobody answers."""
    if any(_cached(repository, name, revision) for name in names):
        return
    with suppress(EntryNotFoundError):  # there under another name
        get_hf_file_metadata(hf_hub_url(repository, names[0], revision=revision), timeout=ANSWER_S)


def described(repository: str, revision: str | None) -> Path:
    """A folder of the hub's cache with what describes a repository's weights.

    Raises:
        OSError, HTTPError: it cannot be fetched.
        ModelError: it has no config.json.
    """
    find(repository, revision, (CONFIG_FILE,))
    found = _fetch(repository, CONFIG_FILE, revision)
    if found is None:
        raise ModelError(f"{repository} has no {CONFIG_FILE}: what architecture it is of is not known")
    with suppress(LocalEntryNotFoundError):
        _fetch(repository, COLOURS_FILE, revision)
    return found.parent


def fetched(repository: str, revision: str | None, file: str | None = None) -> Path:
    """A folder of the hub's cache with a repository's weights and what describes them; of a ``file`` itself.

    Raises:
        OSError, HTTPError: it cannot be fetched.
        ModelError: it has no weights in a form that is known, or a damaged index.
    """
    if file is not None:
        find(repository, revision, (file,))
        named = _fetch(repository, file, revision)
        if named is None:
            raise ModelError(f"{repository} has no {file}")
        return named
    find(repository, revision)
    name = next((name for name in NAMES if _cached(repository, name, revision)), None)
    found = None if name is None else _fetch(repository, name, revision)
    for name in NAMES:
        found = found or _fetch(repository, name, revision)
    if found is None:
        raise ModelError(
            f"{repository} has none of {', '.join(NAMES)}; give the file: model.init=/path/to/file"
        )
    for part in parts(found):
        _fetch(repository, part.name, revision)
    for described in (CONFIG_FILE, COLOURS_FILE):
        with suppress(LocalEntryNotFoundError):  # not there, and nobody to ask: nothing is known of it
            _fetch(repository, described, revision)
    return found.parent


def _cached(repository: str, name: str, revision: str | None) -> Path | None:
    found = try_to_load_from_cache(repository, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _fetch(repository: str, name: str, revision: str | None) -> Path | None:
    """A file in the cache; None if the repository has none of that name."""
    cached = _cached(repository, name, revision)
    if cached is not None:
        return cached
    try:
        return Path(hf_hub_download(repository, name, revision=revision))
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError:
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_file(path: Path) -> State:
    """The state dict in a .safetensors file or a torch checkpoint."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ModelError(f"{path} is no file")
    try:
        if path.suffix == ".safetensors":
            return cast(State, load_file(path))
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged pickle or archive anything may come
        raise ModelError(f"{path} cannot be read: {first_line(error)}") from None
    for key in ("teacher", "student", "state_dict", "model"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    # pathtrain's own checkpoints nest once more
    if isinstance(value, dict) and isinstance(value.get("backbone"), dict):
        value = value["backbone"]
    if not isinstance(value, dict) or not all(isinstance(v, Tensor) for v in value.values()):
        raise ModelError(f"{path} holds no state dict")
    return cast(State, value)
