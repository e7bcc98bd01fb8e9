"""numpy, CuPy and torch arrays as one: native views without a copy, and the way back (DLPack).

The work is done in numpy or CuPy. torch tensors become one of them, on the device where they are and on
torch's current stream, and what comes out becomes a tensor again. torch and CuPy are imported only when
one of their arrays is given.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

# An array of numpy, CuPy or torch. No type says "the same kind as was given" for three libraries, of which
# two may not be installed.
Array = Any


def namespace(native: Array) -> Any:
    """numpy or cupy: the module that a native array belongs to."""
    return np if isinstance(native, np.ndarray) else sys.modules["cupy"]


def is_torch(array: object) -> bool:
    """Whether it is a torch tensor; imports nothing."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def is_cupy(array: object) -> bool:
    """Whether it is a CuPy array; imports nothing."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(array, cupy.ndarray)


def place(array: Array) -> str:
    """The library of an array and where it is: ``numpy on the CPU``, ``torch on cuda:0``."""
    if is_cupy(array):
        return f"cupy on cuda:{array.device.id}"
    if is_torch(array):
        return f"torch on {'the CPU' if array.device.type == 'cpu' else array.device}"
    return "numpy on the CPU"


def native(array: Array) -> Array:
    """The numpy or CuPy view of an array.

    Raises:
        ValueError: it is not an array of numpy, CuPy or torch, or on a device that is no NVIDIA GPU.
    """
    if isinstance(array, np.ndarray) or is_cupy(array):
        return array
    if not is_torch(array):
        raise ValueError(f"expected an array of numpy, CuPy or torch, got {type(array).__name__}")
    tensor = array.detach()
    if tensor.device.type == "cpu":
        return tensor.numpy()
    if tensor.device.type != "cuda":
        raise ValueError(f"expected a tensor on the CPU or an NVIDIA GPU, got one on {tensor.device}")
    import cupy

    return cupy.from_dlpack(tensor)


def beside(array: Array, given: Array, name: str) -> Array:
    """The native view of an array that is used together with ``given``.

    Another library's would be of another stream: what it holds might not be computed yet.

    Raises:
        ValueError: it is neither numpy nor of the library and on the device of ``given``.
    """
    found, where, allowed = native(array), place(array), {"numpy on the CPU": None, place(given): None}
    if where not in allowed:
        raise ValueError(f"expected {name} of {' or '.join(allowed)}, got {where}")
    return found


def to_numpy(array: Array) -> npt.NDArray[Any]:
    """A numpy array of the same values: the array itself or a view on the CPU, else a copy; waits for it."""
    if is_torch(array):
        return np.asarray(array.detach().cpu().numpy())
    return np.asarray(array.get() if is_cupy(array) else array)


def returner(given: Array) -> Callable[[Array], Array]:
    """What turns native results into the kind of array that was given."""
    if not is_torch(given):
        return lambda result: result
    torch = sys.modules["torch"]
    return lambda result: (
        torch.from_numpy(result) if isinstance(result, np.ndarray) else torch.from_dlpack(result)
    )


@contextmanager
def stream_of(given: Array) -> Iterator[None]:
    """Within it, CuPy works on the device of a GPU array, and on torch's current stream for a tensor."""
    if is_cupy(given):
        with given.device:
            yield
    elif is_torch(given) and given.is_cuda:
        import cupy

        torch = sys.modules["torch"]
        stream = torch.cuda.current_stream(given.device)
        with cupy.cuda.Device(given.device.index), cupy.cuda.Stream.from_external(stream):
            yield
    else:
        yield
