"""The one place that turns what the user names into what a run is trained on.

data = opened(["A", "B"])            # a dataset, several, or mixed shards
source = data.source(recipe.sampling, held_out)
"""

from collections.abc import Iterable

import pathprep
from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.mixed.reader import MixedDataset
from pathprep.params.running import AnyPath, listed
from pathtrain.data.several import SeveralDatasets
from pathtrain.data.trained_on import MixedShards, OneDataset, TrainingData


def of(data: Dataset | MixedDataset) -> TrainingData:
    """A dataset, or mixed shards, as training takes it."""
    return MixedShards(data) if isinstance(data, MixedDataset) else OneDataset(data)


def opened(places: AnyPath | Iterable[AnyPath]) -> TrainingData:
    """What is trained on.

    Args:
        places: the folder or URL of a dataset or of mixed shards; or several datasets.

    Raises:
        DatasetError: there is none, or it cannot be used.
        UsageError: a URL that fsspec does not know; they do not go together.
    """
    roots = listed(places)
    if not roots:
        raise UsageError("give a dataset, or mixed shards, to train on")
    found = [pathprep.open(root) for root in roots]
    if len(found) == 1:
        return of(found[0])
    for data in found:
        if isinstance(data, MixedDataset):
            raise UsageError(
                f"{data.root}: mixed shards are trained on alone, in the order that `pathprep mix` has "
                "fixed; name the datasets that they were made of, or mix all of them"
            )
    return SeveralDatasets([data for data in found if isinstance(data, Dataset)])
