"""Small tissue models as ONNX files: a convolution of one pixel, so that what they must find is known."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DESCRIPTION = "mpp: 8\nsize: 64\noverlap: 8\nclasses: [background, tissue, pen]\n"
# Logits from red, green, blue, 0 to 1: tissue where green is missing, pen where red is
WEIGHTS = np.array([[0, 0, 0], [40, -40, 0], [-40, 40, 0]], np.float32)
BIAS = np.array([0, -2, -2], np.float32)


def write(
    path: Path,
    description: str | None = DESCRIPTION,
    *,
    shape: tuple[Any, ...] = ("n", 3, "h", "w"),
    kind: int = TensorProto.FLOAT,
    metadata: dict[str, str] | None = None,
    outside: bool = False,
    bias: np.ndarray = BIAS,
) -> Path:
    """A model at ``path``, with its description beside it.

    Args:
        shape: of its input. kind: of its input and output. outside: its weights lie in a file of their own.
    """
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    tensors = [
        numpy_helper.from_array(WEIGHTS.reshape(3, 3, 1, 1).astype(dtype), "w"),
        numpy_helper.from_array(bias.astype(dtype), "b"),
    ]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"])],
        "tissue",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, ("n", 3, "p", "q"))],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    more = (
        {"save_as_external_data": True, "location": f"{path.name}.data", "size_threshold": 0}
        if outside
        else {}
    )
    onnx.save(model, path, **more)
    if description is not None:
        path.with_suffix(".yaml").write_text(description)
    return path
