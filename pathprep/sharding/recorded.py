"""The parameters that a dataset was made with, from its dataset.json."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathprep.params.quality import QcParams
from pathprep.params.shard import PIXELS_VERSION, ShardParams
from pathprep.params.stain import StainParams
from pathprep.params.tissue import TissueParams
from pathprep.stain import Target


def recorded(values: Mapping[str, Any]) -> ShardParams:
    """What ``ShardParams.as_dict`` was made from, as far as it shapes the pixels.

    Args:
        values: ``params`` of dataset.json.

    Raises:
        UsageError: they are another version's.
    """
    given = dict(values)
    try:
        version = given.pop("pixels_version")
        mpps = given.pop("mpp")
        first, *more = mpps if isinstance(mpps, list) else [mpps]
        stained = dict(given.pop("stain"))
        if "target" in stained:
            target = stained["target"]
            stained["target"] = Target(np.array(target["he"]), np.array(target["max_c"]), "dataset")
        made = ShardParams(
            mpp=first,
            more_mpps=tuple(more),
            stain=StainParams(**stained),
            tissue=TissueParams.recorded(given.pop("tissue")),
            qc=QcParams(**given.pop("qc", {})),
            **given,
        )
    except (KeyError, TypeError):
        version = None
    if version != PIXELS_VERSION or made.as_dict() != dict(values):
        raise UsageError(
            "the dataset was made by another version of pathprep, whose tiles this one cannot make "
            "again; make it anew with `pathprep shard` and `rebuild`"
        )
    return made
