"""Random numbers: every bit is the same, wherever they are drawn."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from _common import P, mesh_2x4, place, put, ramp
from jax import random
from jax.sharding import NamedSharding

RTOL = 1e-6  # transcendental functions are vectorized by shard


def case_keys() -> Any:
    key = random.key(42)
    return [key, random.split(key, 5), random.fold_in(key, 7), random.PRNGKey(3), str(key.dtype), random.clone(key)]


def case_implementations() -> Any:
    return {n: random.bits(random.key(1, impl=n), (8,)) for n in ("threefry2x32", "rbg", "unsafe_rbg")}


def case_bits_of_each_width() -> Any:
    return [random.bits(random.key(5), (9,), t) for t in (jnp.uint8, jnp.uint16, jnp.uint32)]


def case_uniform_distributions() -> Any:
    k = random.key(0)
    return [
        random.uniform(k, (4, 4)), random.uniform(k, (8,), jnp.bfloat16, -1, 1), random.randint(k, (16,), -5, 99),
        random.bernoulli(k, 0.3, (20,)), random.permutation(k, 16), random.choice(k, 50, (6,), replace=False),
        random.rademacher(k, (8,)),
    ]  # fmt: skip


def case_continuous_distributions() -> Any:
    def draw(k: jax.Array) -> list[jax.Array]:
        s = (12,)
        return [
            random.normal(k, s), random.exponential(k, s), random.gumbel(k, s), random.laplace(k, s),
            random.cauchy(k, s), random.gamma(k, 2.5, s), random.truncated_normal(k, -1.0, 1.0, s),
        ]  # fmt: skip

    return [jax.jit(draw)(random.key(1)), jax.jit(draw)(put(random.key(1)))]


def case_discrete_distributions() -> Any:
    def draw(k: jax.Array) -> list[jax.Array]:
        return [random.categorical(k, jnp.arange(6.0), shape=(20,)), random.poisson(k, 3.0, (12,))]

    return jax.jit(draw)(random.key(2))


def case_sharded_results() -> Any:
    out = NamedSharding(mesh_2x4(), P("x", "y"))
    f = jax.jit(lambda k: (random.normal(k, (8, 16)), random.randint(k, (8, 16), 0, 1000)), out_shardings=out)
    a, b = f(random.key(9))
    return [a, b, place(b)]


def case_sharded_keys() -> Any:
    keys = jax.device_put(random.split(random.key(3), 8), NamedSharding(mesh_2x4(), P(("x", "y"))))
    drawn = jax.jit(jax.vmap(lambda k: random.uniform(k, (3,))))(keys)
    return [keys, drawn, keys.shape, random.key_data(keys), place(drawn)]


def case_keys_inside_shard_map() -> Any:
    def f(key: jax.Array, x: jax.Array) -> jax.Array:
        return x + random.uniform(random.fold_in(key, jax.lax.axis_index("y")), x.shape)

    g = jax.shard_map(f, mesh=mesh_2x4(), in_specs=(P(), P("x", "y")), out_specs=P("x", "y"))
    return jax.jit(g)(random.key(0), ramp(8, 8))


def case_keys_through_scan() -> Any:
    def step(key: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        key, draw = random.split(key)
        return key, random.normal(draw, (2,))

    return jax.jit(lambda k: jax.lax.scan(step, k, None, length=10))(random.key(0))


def case_wrapped_key_data() -> Any:
    data = put(random.key_data(random.split(random.key(1), 4)), "y")
    return [random.wrap_key_data(data), str(random.key_impl(random.key(0)))]


def case_shuffle_of_sharded() -> Any:
    return random.permutation(random.key(4), put(ramp(16, 4), "x", "y"), axis=0, independent=False)
