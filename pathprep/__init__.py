"""Slides to tissue tiles to Macenko stain normalisation to WebDataset shards.

    import pathprep

    pathprep.shard(["slides/"], "dataset", mpp=0.5)
    dataset = pathprep.open("dataset")
    dataset[0].pixels

Each name is loaded when it is first used: the package itself takes no time to import, and never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = [
    "Dataset",
    "MixedDataset",
    "Restain",
    "ShardParams",
    "StainParams",
    "audit",
    "doctor",
    "fit_target",
    "forecast",
    "import_tiles",
    "inspect",
    "mix",
    "open",
    "overlay",
    "repair",
    "report",
    "shard",
    "survey",
    "synthesize",
    "tissue",
    "verify",
    "view",
]

# Where each name is; the imports below say the same to type checkers and editors
_MODULES = {
    "Dataset": "pathprep.dataset.reader",
    "MixedDataset": "pathprep.mixed.reader",
    "Restain": "pathprep.dataset.maps",
    "ShardParams": "pathprep.params.shard",
    "StainParams": "pathprep.params.stain",
    "audit": "pathprep.auditing.audit",
    "doctor": "pathprep.checkup.doctor",
    "fit_target": "pathprep.sharding.fit_target",
    "forecast": "pathprep.sharding.shard",
    "import_tiles": "pathprep.tilesets.import_tiles",
    "inspect": "pathprep.sharding.inspect",
    "mix": "pathprep.mixed.make",
    "open": "pathprep.folders",
    "overlay": "pathprep.scores.overlay",
    "repair": "pathprep.sharding.repair",
    "report": "pathprep.reports.page",
    "shard": "pathprep.sharding.shard",
    "survey": "pathprep.surveying.survey",
    "synthesize": "pathprep.synth.archive",
    "tissue": "pathprep.outlining.outline",
    "verify": "pathprep.folders",
    "view": "pathprep.viewing.view",
}

if TYPE_CHECKING:
    from pathprep.auditing.audit import audit
    from pathprep.checkup.doctor import doctor
    from pathprep.dataset.maps import Restain
    from pathprep.dataset.reader import Dataset
    from pathprep.folders import open, verify
    from pathprep.mixed.make import mix
    from pathprep.mixed.reader import MixedDataset
    from pathprep.outlining.outline import tissue
    from pathprep.params.shard import ShardParams
    from pathprep.params.stain import StainParams
    from pathprep.reports.page import report
    from pathprep.scores.overlay import overlay
    from pathprep.sharding.fit_target import fit_target
    from pathprep.sharding.inspect import inspect
    from pathprep.sharding.repair import repair
    from pathprep.sharding.shard import forecast, shard
    from pathprep.surveying.survey import survey
    from pathprep.synth.archive import synthesize
    from pathprep.tilesets.import_tiles import import_tiles
    from pathprep.viewing.view import view


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
