"""A run as a folder that plain timm opens: ``timm.create_model("local-dir:MODEL", pretrained=True)``.

    MODEL/config.json          architecture, arguments, normalisation and input size, as timm writes them;
                               and, which timm does not look at, the steps and training slides, what training
                               began with, and the stain target if there is one
    MODEL/model.safetensors    the teacher's backbone
    MODEL/README.md            where it came from and how to use it

config.json is sealed and holds the hashes of the two others. The folder is written under a temporary name
beside MODEL and the two change names: a half-written export does not exist, and neither does a moment without
one. Files in MODEL that are not of these three stay there.

An export is passed on: of the run's machine it holds no path, of files and folders their names alone.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save

from pathprep.storage import atomic
from pathprep.storage.seals import write_sealed
from pathprep.storage.whole_folder import publish_folder
from pathtrain.models.folder import CARD_FILE, CONFIG_FILE, CREATOR, FILES, VERSION, WEIGHTS_FILE
from pathtrain.recipes.load import dump
from pathtrain.recipes.names_only import short_all, short_init, without_paths
from pathtrain.runs.described import info_of, joined, recipe_of
from pathtrain.runs.exported import BUILT_IN
from pathtrain.runs.identity import tiles_in_words
from pathtrain.runs.model import LoadedModel

USUAL = (224, 224)  # pixels: what timm makes a transformer for if nothing is said


def write(model: LoadedModel, run: Path, out: Path) -> None:
    """Write a model of a run to a folder, at once or not at all; an earlier one there is replaced."""
    out.parent.mkdir(parents=True, exist_ok=True)
    files = {
        WEIGHTS_FILE: save(model.module.state_dict(), metadata={"format": "pt"}),
        CARD_FILE: _card(model, run).encode(),
    }
    config = _config(model) | {
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    }

    def make(folder: Path) -> None:
        for name, data in files.items():
            atomic.write_bytes(folder / name, data)
        write_sealed(folder / CONFIG_FILE, config)

    publish_folder(out, make, FILES)


def _config(model: LoadedModel) -> dict[str, Any]:
    """The layout of timm's models._hub.save_config_for_hf, and what is ours."""
    ours: dict[str, Any] = {
        "creator": CREATOR,
        "version": VERSION,
        "fingerprint": model.fingerprint,
        "positions": model.config.positions,
    }
    if model.target is not None:
        ours["target"] = model.target.as_dict()
    if model.step is not None:
        ours["step"] = model.step
    if model.averaged:
        ours["averaged"] = list(model.averaged)
    if model.slides is not None:
        ours["slides"] = model.slides
    if model.start is not None:
        ours["start"] = {**asdict(model.start), "init": short_init(model.start.init)}
    embed: Any = model.module.patch_embed
    arguments = {**model.config.kwargs, **BUILT_IN}
    if "img_size" not in arguments and tuple(embed.img_size) != USUAL:
        # another grid by its name (DINOv2's: 518 px), which timm would take of fixed sizes alone
        arguments["img_size"] = list(embed.img_size)
        ours["kwargs"] = model.config.kwargs
    return {
        "architecture": model.config.name,
        "num_classes": 0,
        "num_features": model.dim,
        "global_pool": model.module.global_pool,
        "model_args": arguments,
        "pretrained_cfg": {
            "num_classes": 0,
            "input_size": [3, model.size, model.size],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": list(model.config.mean),
            "std": list(model.config.std),
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
        **ours,
    }


def _card(model: LoadedModel, run: Path) -> str:
    info = info_of(run)
    identity = info.get("identity", {})
    recipe = without_paths(recipe_of(run))
    facts = {
        "Architecture": f"timm `{model.config.name}`, {json.dumps(model.config.kwargs)}",
        "Features": f"{model.dim} numbers per image of {model.size} x {model.size} px",
        "Normalisation": f"mean {list(model.config.mean)}, std {list(model.config.std)}",
        "Stain": f"normalised (Macenko) to {model.target.name}" if model.target else "as stored",
        "Optimiser steps": model.step,
        **(
            {"Mean of the encoders after steps": ", ".join(map(str, model.averaged))}
            if model.averaged
            else {}
        ),
        "Method": recipe.method,
        "Dataset": short_all(info.get("dataset", "unknown")),
        "Dataset build id": joined(identity.get("dataset build id", "unknown")),
        **({"Groups": info["groups"]} if info.get("groups") else {"Slides": model.slides or "unknown"}),
        "Tiles": tiles_in_words(identity),
        "Fingerprint": model.fingerprint,
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"""# {model.name}

A histology tile encoder, trained with `pathtrain pretrain` and exported with `pathtrain export`.

| | |
| --- | --- |
{table}

```python
import timm

encoder = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # FOLDER: where this file lies
data = timm.data.resolve_model_data_config(encoder)
transform = timm.data.create_transform(**data, is_training=False)
features = encoder(transform(image)[None])  # image: a PIL tile; (1, {model.dim})
```

Tiles must be prepared as the dataset was: same field of view, same stain normalisation. At other sizes
{_positions_note(model)}
{_stain_note(model)}
## Recipe

```yaml
{dump(recipe)}```
"""


def _positions_note(model: LoadedModel) -> str:
    """What becomes of position embeddings at other sizes than the grid's."""
    if model.config.positions == "registers":
        return "positions are resampled as timm does by itself (`dynamic_img_size=True`)."
    return (
        f"`pathtrain embed --size` resamples positions as training did (`{model.config.positions}`); "
        "timm does it with antialiasing, which gives other features."
    )


def _stain_note(model: LoadedModel) -> str:
    """How plain timm users normalise; `pathtrain embed` and `evaluate` do it by themselves."""
    if model.target is None:
        return ""
    how = model.target
    return f"""
This encoder was trained on normalised tiles. `pathtrain embed` and `pathtrain evaluate` normalise what is
not yet; with timm alone:

```python
import numpy as np
from pathprep import stain

target = stain.Target(np.array({json.dumps(how.he)}), np.array({json.dumps(how.max_c)}), "{CREATOR}")
# tile: (H, W, 3) uint8
fits = stain.fit([tile], keep="{how.keep}", alpha={how.alpha}, beta={how.beta}, io={how.io})
(tile,) = stain.apply([tile], stain.matrix(fits, target), io={how.io})
```
"""
