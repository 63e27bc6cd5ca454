"""Operators that draw random numbers. The first argument of each lowering is a key of jax's.

The numbers are not those of torch's generators, but of the same distributions.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax import random

from polypath.torch.lowerings.table import aten, draws, lowers
from polypath.torch.lowerings.types import Scalar, Shape, cast, default_float, dtype, is_float, wide

Key = jax.Array


def _type(to: torch.dtype | None, like: jax.Array | None = None) -> Any:
    if to is not None:
        return dtype(to)
    return default_float() if like is None else like.dtype


def _uniform(key: Key, shape: Shape, of: Any) -> jax.Array:
    return random.uniform(key, tuple(shape), of) if is_float(of) else random.uniform(key, tuple(shape)).astype(of)


def _normal(key: Key, shape: Shape, of: Any) -> jax.Array:
    return random.normal(key, tuple(shape), of)


@draws(aten.rand.default, aten.rand.generator)
def rand(key: Key, size: Shape, *, dtype: torch.dtype | None = None, **_: Any) -> jax.Array:
    return _uniform(key, size, _type(dtype))


@draws(aten.randn.default, aten.randn.generator)
def randn(key: Key, size: Shape, *, dtype: torch.dtype | None = None, **_: Any) -> jax.Array:
    return _normal(key, size, _type(dtype))


@draws(aten.rand_like)
def rand_like(key: Key, x: jax.Array, *, dtype: torch.dtype | None = None, **_: Any) -> jax.Array:
    return _uniform(key, x.shape, _type(dtype, x))


@draws(aten.randn_like)
def randn_like(key: Key, x: jax.Array, *, dtype: torch.dtype | None = None, **_: Any) -> jax.Array:
    return _normal(key, x.shape, _type(dtype, x))


def _whole(key: Key, shape: Shape, low: Any, high: Any, of: Any) -> jax.Array:
    return random.randint(key, tuple(shape), low, high, jnp.int64).astype(of)


@draws(aten.randint.default, aten.randint.generator)
def randint(key: Key, high: int, size: Shape, *, dtype: torch.dtype | None = None, **_: Any) -> jax.Array:
    return _whole(key, size, 0, high, _type(dtype or torch.int64))


@draws(aten.randint.low, aten.randint.low_generator)
def randint_low(key: Key, low: int, high: int, size: Shape, *, dtype: torch.dtype | None = None, **_: Any) -> jax.Array:
    return _whole(key, size, low, high, _type(dtype or torch.int64))


@draws(
    aten.randint_like.default, aten.randint_like.generator, aten.randint_like.Tensor, aten.randint_like.Tensor_generator
)
def randint_like(key: Key, x: jax.Array, high: Any, *, dtype: torch.dtype | None = None, **_: Any) -> jax.Array:
    return _whole(key, x.shape, 0, high, _type(dtype, x))


@draws(aten.randint_like.low_dtype, aten.randint_like.low_generator_dtype)
def randint_like_low(
    key: Key, x: jax.Array, low: int, high: int, *, dtype: torch.dtype | None = None, **_: Any
) -> jax.Array:
    return _whole(key, x.shape, low, high, _type(dtype, x))


@draws(aten.randperm.default, aten.randperm.generator)
def randperm(key: Key, n: int, *, dtype: torch.dtype | None = None, **_: Any) -> jax.Array:
    return random.permutation(key, n).astype(_type(dtype or torch.int64))


@draws(aten.random)
def random_integers(key: Key, x: jax.Array, low: int | None = None, high: int | None = None, **_: Any) -> jax.Array:
    """Up to what the type holds exactly, where no bound is given."""
    if high is None and low is not None and low > 0:
        low, high = 0, low  # aten.random.to has only the upper bound.
    if high is None:
        exact = {2: 2**8 if x.dtype == jnp.bfloat16 else 2**11, 4: 2**24, 8: 2**53}
        high = exact[x.dtype.itemsize] + 1 if is_float(x.dtype) else min(jnp.iinfo(x.dtype).max, 2**63 - 2) + 1
    return _whole(key, x.shape, low or 0, high, x.dtype)


@draws(aten.uniform)
def uniform(key: Key, x: jax.Array, low: float = 0.0, high: float = 1.0, **_: Any) -> jax.Array:
    return (low + (high - low) * _uniform(key, x.shape, wide(x).dtype)).astype(x.dtype)


@draws(aten.normal_functional)
def normal(key: Key, x: jax.Array, mean: float = 0.0, std: float = 1.0, **_: Any) -> jax.Array:
    return (mean + std * _normal(key, x.shape, wide(x).dtype)).astype(x.dtype)


@draws(aten.normal.Tensor_float, aten.normal.float_Tensor, aten.normal.Tensor_Tensor)
def normal_of(key: Key, mean: Any, std: Any = 1.0, **_: Any) -> jax.Array:
    arrays = [one for one in (mean, std) if isinstance(one, jax.Array)]
    shape = jnp.broadcast_shapes(*(one.shape for one in arrays))
    of = jnp.result_type(*arrays)
    return (mean + std * _normal(key, shape, wide(arrays[0]).dtype)).astype(of)


@draws(aten.normal.float_float)
def normal_sized(
    key: Key, mean: float, std: float, size: Shape, *, dtype: torch.dtype | None = None, **_: Any
) -> jax.Array:
    return mean + std * _normal(key, size, _type(dtype))


@draws(aten.bernoulli.default)
def bernoulli(key: Key, x: jax.Array, **_: Any) -> jax.Array:
    return random.bernoulli(key, wide(x), x.shape).astype(x.dtype)


@draws(aten.bernoulli.p, aten.bernoulli.Tensor)
def bernoulli_p(key: Key, x: jax.Array, p: Any = 0.5, **_: Any) -> jax.Array:
    return random.bernoulli(key, p, x.shape).astype(x.dtype)


@draws(aten.native_dropout)
def native_dropout(key: Key, x: jax.Array, p: float, train: bool | None = True) -> tuple[jax.Array, jax.Array]:
    if train is False or p == 0:
        return x, jnp.ones(x.shape, jnp.bool_)
    if p == 1:
        return jnp.zeros_like(x), jnp.zeros(x.shape, jnp.bool_)
    kept = random.bernoulli(key, 1 - p, x.shape)
    return jnp.where(kept, x * cast(1 / (1 - p), x.dtype), 0).astype(x.dtype), kept


@lowers(aten.native_dropout_backward)
def native_dropout_backward(grad: jax.Array, kept: jax.Array, scale: float) -> jax.Array:
    return jnp.where(kept, grad * cast(scale, grad.dtype), 0).astype(grad.dtype)


@draws(aten.exponential)
def exponential(key: Key, x: jax.Array, rate: float = 1.0, **_: Any) -> jax.Array:
    return (random.exponential(key, x.shape, wide(x).dtype) / rate).astype(x.dtype)


@draws(aten.geometric)
def geometric(key: Key, x: jax.Array, p: float, **_: Any) -> jax.Array:
    return random.geometric(key, p, x.shape).astype(x.dtype)


@draws(aten.cauchy)
def cauchy(key: Key, x: jax.Array, median: float = 0.0, sigma: float = 1.0, **_: Any) -> jax.Array:
    return (median + sigma * random.cauchy(key, x.shape, wide(x).dtype)).astype(x.dtype)


@draws(aten.log_normal)
def log_normal(key: Key, x: jax.Array, mean: float = 1.0, std: float = 2.0, **_: Any) -> jax.Array:
    return jnp.exp(mean + std * _normal(key, x.shape, wide(x).dtype)).astype(x.dtype)


@draws(aten.multinomial)
def multinomial(key: Key, weights: jax.Array, count: int, replacement: bool = False, **_: Any) -> jax.Array:
    logits = jnp.log(wide(weights))
    if replacement:
        drawn = random.categorical(key, logits, axis=-1, shape=(count, *weights.shape[:-1]))
        return jnp.moveaxis(drawn, 0, -1).astype(jnp.int64)
    # The largest of the logits with Gumbel noise are a draw without replacement.
    return jax.lax.top_k(logits + random.gumbel(key, logits.shape, logits.dtype), count)[1].astype(jnp.int64)


@draws(aten.poisson)
def poisson(key: Key, x: jax.Array, *_: Any) -> jax.Array:
    return random.poisson(key, wide(x), x.shape).astype(x.dtype)


@draws(aten.binomial)
def binomial(key: Key, count: jax.Array, p: jax.Array, *_: Any) -> jax.Array:
    return random.binomial(key, wide(count), wide(p)).astype(count.dtype)


@draws(aten._standard_gamma)
def standard_gamma(key: Key, x: jax.Array, *_: Any) -> jax.Array:
    return random.gamma(key, wide(x), x.shape).astype(x.dtype)


@lowers(aten._standard_gamma_grad)
def standard_gamma_grad(x: jax.Array, drawn: jax.Array) -> jax.Array:
    gradient: Any = jax.lax.random_gamma_grad
    return gradient(x, drawn)


@draws(aten._sample_dirichlet)
def dirichlet(key: Key, x: jax.Array, *_: Any) -> jax.Array:
    return random.dirichlet(key, wide(x)).astype(x.dtype)


@draws(aten.rrelu_with_noise_functional)
def rrelu(
    key: Key, x: jax.Array, noise: jax.Array, lower: Scalar = 0.125, upper: Scalar = 1 / 3, training: bool = False,
    *_: Any,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    if not training:
        return jnp.where(x > 0, x, x * ((lower + upper) / 2)).astype(x.dtype), noise  # type: ignore[operator]
    slope = random.uniform(key, x.shape, wide(x).dtype, lower, upper).astype(x.dtype)  # type: ignore[arg-type]
    noise = jnp.where(x <= 0, slope, 1).astype(x.dtype)
    return x * noise, noise
