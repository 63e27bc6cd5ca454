"""Which type an operator computes in: torch's rules, told in jax's types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from polypath.torch.dtypes import jax_dtype as dtype

Scalar = bool | int | float | complex
Operand = jax.Array | Scalar
Shape = Sequence[int]
Unary = Callable[[jax.Array], jax.Array]


def default_float() -> np.dtype[Any]:
    """What torch makes of integers where it needs a float."""
    return dtype(torch.get_default_dtype())


def default_complex() -> np.dtype[Any]:
    return to_complex(default_float())


def to_complex(real: np.dtype[Any]) -> np.dtype[Any]:
    return jnp.dtype(jnp.complex128 if real == jnp.float64 else jnp.complex64)


def to_real(of: np.dtype[Any]) -> np.dtype[Any]:
    return jnp.finfo(of).dtype if is_complex(of) else of


def is_complex(of: Any) -> bool:
    return jnp.issubdtype(of, jnp.complexfloating)


def is_float(of: Any) -> bool:
    return jnp.issubdtype(of, jnp.floating)


def is_inexact(of: Any) -> bool:
    return jnp.issubdtype(of, jnp.inexact)


def is_bool(of: Any) -> bool:
    return jnp.dtype(of) == jnp.bool_


def is_low(of: Any) -> bool:
    """Whether torch computes this type in float32 and rounds at the end."""
    return is_float(of) and jnp.finfo(of).bits < 32


def _scalar_type(value: Scalar) -> np.dtype[Any]:
    if isinstance(value, bool):
        return jnp.dtype(jnp.bool_)
    if isinstance(value, int):
        return jnp.dtype(jnp.int64)
    return default_complex() if isinstance(value, complex) else default_float()


def result_type(*operands: Operand | None) -> np.dtype[Any]:
    """`torch.result_type`: arrays without dimensions, and numbers even less, only raise the kind of the type."""
    found: list[np.dtype[Any] | None] = [None, None, None]
    for operand in operands:
        if operand is None:
            continue
        if isinstance(operand, (bool, int, float, complex)):
            tier, of = 2, _scalar_type(operand)
        else:
            tier, of = (0 if jnp.ndim(operand) else 1), operand.dtype
        before = found[tier]
        found[tier] = of if before is None else jnp.promote_types(before, of)
    arrays, singles, numbers = found
    result = _above(arrays, _above(singles, numbers))
    assert result is not None
    return result


def _above(higher: np.dtype[Any] | None, lower: np.dtype[Any] | None) -> np.dtype[Any] | None:
    """The higher tier's type, but of the lower's kind where that is more."""
    if higher is None or lower is None:
        return higher if lower is None else lower
    if is_inexact(higher):
        return to_complex(higher) if is_complex(lower) and not is_complex(higher) else higher
    return jnp.promote_types(higher, lower) if is_bool(higher) or is_inexact(lower) else higher


def cast(value: Operand, to: Any) -> jax.Array:
    """The value in that type, converted as C does: a float to an integer truncates, to bool is `!= 0`."""
    if isinstance(value, (bool, int, float, complex)):
        return _constant(value, to)
    if value.dtype == to:
        return value
    if is_complex(value.dtype) and not is_complex(to) and not is_bool(to):
        value = value.real
    return value.astype(to)


def _constant(value: Scalar, to: Any) -> jax.Array:
    if isinstance(value, int) and jnp.issubdtype(to, jnp.integer):
        bits = jnp.iinfo(to).bits  # torch wraps around.
        value = value & ((1 << bits) - 1)
        if jnp.issubdtype(to, jnp.signedinteger) and value >> (bits - 1):
            value -= 1 << bits
    if isinstance(value, complex) and not is_complex(to):
        value = value.real
    return jnp.asarray(value, to)


def is_one(value: Operand) -> bool:
    """Whether it is the number 1, and not one that is known only when the program runs."""
    return isinstance(value, (int, float)) and value == 1


def promoted(*operands: Operand) -> list[jax.Array]:
    """The operands in the type that they have in common."""
    to = result_type(*operands)
    return [cast(one, to) for one in operands]


def promoted_float(*operands: Operand) -> list[jax.Array]:
    """The same for operators that give floats for integers."""
    to = result_type(*operands)
    if not is_inexact(to):
        to = default_float()
    return [cast(one, to) for one in operands]


def inexact(x: jax.Array) -> jax.Array:
    """The array, in floats if it has integers."""
    return x if is_inexact(x.dtype) else x.astype(default_float())


def wide(x: jax.Array) -> jax.Array:
    """The array in the type that torch computes it in: bfloat16 and half are float32 until the end."""
    return x.astype(jnp.float32) if is_low(x.dtype) else x


def axis(dim: int, ndim: int) -> int:
    """The dimension counted from the front; an array without any has one to torch."""
    return dim % max(ndim, 1)


def axes(dims: Any, ndim: int) -> tuple[int, ...]:
    """The same of several; none given means all."""
    if isinstance(dims, int):
        dims = [dims]
    if dims is None or len(dims) == 0:
        return tuple(range(ndim))
    return tuple(axis(dim, ndim) for dim in dims) if ndim else ()


def is_contiguous(shape: Sequence[int], strides: Sequence[int] | None) -> bool:
    """Whether an array lies in memory in the order of its dimensions; so it is taken to where strides are not told."""
    if strides is None or 0 in shape:
        return True
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
