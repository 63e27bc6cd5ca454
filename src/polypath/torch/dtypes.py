"""torch's dtypes and JAX's, and tensors of torch's CPU as numpy arrays."""

from __future__ import annotations

from typing import Any, Final

import jax
import ml_dtypes
import numpy as np
import torch

KNOWN: Final[dict[torch.dtype, Any]] = {
    torch.bool: np.bool_,
    torch.uint8: np.uint8,
    torch.uint16: np.uint16,
    torch.uint32: np.uint32,
    torch.uint64: np.uint64,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.complex64: np.complex64,
    torch.complex128: np.complex128,
    torch.float8_e4m3fn: ml_dtypes.float8_e4m3fn,
    torch.float8_e4m3fnuz: ml_dtypes.float8_e4m3fnuz,
    torch.float8_e5m2: ml_dtypes.float8_e5m2,
    torch.float8_e5m2fnuz: ml_dtypes.float8_e5m2fnuz,
    torch.float8_e8m0fnu: ml_dtypes.float8_e8m0fnu,
}
_JAX: Final = {name: np.dtype(dtype) for name, dtype in KNOWN.items()}
_TORCH: Final = {dtype: name for name, dtype in _JAX.items()}
_BITS: Final = {1: torch.uint8, 2: torch.int16}
"""What carries a dtype that numpy alone does not know, by its bytes."""


def jax_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """JAX's name for a dtype.

    Raises:
        TypeError: XLA has none that is the same.
    """
    found = _JAX.get(dtype)
    if found is None:
        raise TypeError(f"XLA has no dtype like {dtype}; use one of {', '.join(str(name) for name in _JAX)}.")
    return found


def torch_dtype(dtype: Any) -> torch.dtype:
    """torch's name for a dtype of a JAX array.

    Raises:
        TypeError: torch has none whose elements it can compute with or copy.
    """
    found = _TORCH.get(np.dtype(dtype))
    if found is None:
        raise TypeError(f"torch has no dtype like {np.dtype(dtype)}; convert the array before, to float32 or int8 say.")
    return found


def to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A copy of a tensor of torch's CPU."""
    if tensor._is_zerotensor():  # It has no memory.
        tensor = tensor.clone()
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    wanted = jax_dtype(tensor.dtype)
    if wanted.type.__module__ == "numpy":
        return tensor.numpy().copy()
    return tensor.view(_BITS[tensor.element_size()]).numpy().copy().view(wanted)


def to_torch(array: jax.Array) -> torch.Tensor:
    """A tensor of torch's CPU with what an array holds: waits for it."""
    data = np.array(array)
    dtype = torch_dtype(data.dtype)
    if data.dtype.type.__module__ == "numpy":
        return torch.from_numpy(data)
    return torch.from_numpy(data.view(f"i{data.itemsize}" if data.itemsize > 1 else "u1")).view(dtype)
