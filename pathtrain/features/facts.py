"""What files of features say of the model that made them, for comparing and for people."""

from typing import Any

from pathtrain.features.encode import check_short, check_size, resampled
from pathtrain.params.encoding import Dtype, How
from pathtrain.runs.model import LoadedModel


def made_from(model: LoadedModel, how: How, dtype: Dtype) -> dict[str, Any]:
    """What of a model and of its use decides features: files are kept if it is the same.

    Raises:
        UsageError: a size that cannot be.
    """
    size = check_size(model, how.size)
    check_short(how, size)
    return {
        "fingerprint": model.fingerprint,
        "size": size if how.short is None else f"{how.short} cropped to {size}",
        "precision": how.precision,
        "readout": model.readout,
        **({} if dtype == "float32" else {"dtype": dtype}),
        **resampled(model, size),
    }


def described(model: LoadedModel, dtype: Dtype) -> dict[str, Any]:
    """Facts that are written besides: encoder, width, dtype; licence if it is known. ``mpp`` is a slide's."""
    facts = {
        "encoder": model.encoder,
        "width": model.dim,
        "dtype": dtype,
        "licence": model.licence,
    }
    return {key: value for key, value in facts.items() if value is not None}


def seen(model: LoadedModel, how: How, micrometres: float) -> float:
    """The MPP that a model sees of tiles with so many micrometres a side: that of its images."""
    return micrometres / (how.short or check_size(model, how.size))
