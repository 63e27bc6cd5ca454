"""Sorting, indexing and shape manipulation of sharded arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _common import noise, put, ramp, shards
from jax import lax


def x_2d() -> jax.Array:
    return put(noise(8, 16), "x", "y")


def case_sort() -> Any:
    f = jax.jit(lambda x: [jnp.sort(x, 0), jnp.sort(x, 1), jnp.argsort(x, 1), jnp.sort(x, 1, descending=True)])
    return [f(x_2d()), f(noise(8, 16)), jnp.lexsort((jnp.arange(8) % 3, jnp.arange(8)[::-1]))]


def case_sort_integers_and_pairs() -> Any:
    x = put(ramp(64, dtype=np.int32) * 37 % 64, ("x", "y"))
    return [
        jnp.sort(x),
        lax.sort((x % 4, x), num_keys=2),
        jnp.sort(x.astype(jnp.bfloat16)),
        jnp.argsort(x, stable=True),
    ]


def case_top_k() -> Any:
    f = jax.jit(lambda x: [lax.top_k(x, 3), lax.approx_max_k(x, 2), jnp.partition(x, 3), jnp.argmax(x, 0)])
    return [f(x_2d()), f(noise(8, 16))]


def case_unique_and_sets() -> Any:
    x = put(ramp(32, dtype=np.int32) % 5, "x")
    return [
        jnp.unique(x, return_counts=True), jnp.bincount(x, length=6), jnp.isin(x, jnp.array([1, 3])),
        jnp.searchsorted(jnp.sort(x), jnp.array([0, 2, 9])), jnp.histogram(x, bins=4), jnp.nonzero(x > 3),
        jnp.unique(x, size=8, fill_value=-1),
    ]  # fmt: skip


def case_statistics() -> Any:
    x = put(ramp(8, 8), "x")
    return [
        jnp.median(x),
        jnp.quantile(x, 0.25, axis=0),
        jnp.ptp(x),
        jnp.diff(x),
        jnp.digitize(x, jnp.arange(0, 64.0, 9)),
    ]


def case_gather() -> Any:
    x, i = x_2d(), jnp.array([3, 0, -1, 7])
    return [
        x[i],
        x[:, i],
        x[i, i],
        jnp.take(x, i, axis=1),
        jnp.take_along_axis(x, jnp.argsort(x), 1),
        x[i[:, None], :5],
    ]


def case_basic_indexing() -> Any:
    x = x_2d()
    return [x[2], x[-1, ::-2], x[1:7:2, 3:], x[..., None, 4], x[jnp.array(x > 0)].shape, float(x[3, 4]), x[:0]]


def case_scatter() -> Any:
    x, i = x_2d(), jnp.array([1, 1, 6])
    return [
        x.at[i].set(1.0), x.at[i, 2].add(1.0), x.at[:, i].mul(2.0), x.at[2:5].max(0.0), x.at[99].set(5.0, mode="drop"),
        jax.jit(lambda x: x.at[i].min(-1.0).at[0].set(7))(x),
    ]  # fmt: skip


def case_segment_sum() -> Any:
    return jax.jit(lambda x, s: jax.ops.segment_sum(x, s, 4))(
        put(ramp(16, 2), "x"), put(ramp(16, dtype=np.int32) % 4, "x")
    )


def case_dynamic_slices() -> Any:
    f = jax.jit(lambda x, i: [lax.dynamic_slice(x, (i, i), (3, 4)), lax.dynamic_update_slice(x, x[:2, :2] * 0, (i, 1))])
    return [f(x_2d(), i) for i in (0, 4, 100)]


def case_shapes() -> Any:
    x = x_2d()
    f = jax.jit(
        lambda x: [
            x.T, x.reshape(4, 32), x.ravel(), jnp.stack([x, x]), jnp.split(x, 4), jnp.tile(x, (2, 1)),
            jnp.roll(x, 3, 1), jnp.repeat(x, 2, 0), jnp.flip(x), jnp.moveaxis(x[None], 0, 2), jnp.pad(x, 1),
            jnp.concatenate([x, x], 1),
        ]
    )  # fmt: skip
    return f(x)


def case_outside_jit() -> Any:
    x = x_2d()
    return [
        x.T,
        x.reshape(-1)[:9],
        jnp.concatenate([x, x]),
        x.astype(jnp.int32),
        -x,
        x == x.max(),
        jnp.where(x > 0, x, 0),
    ]


def case_broadcasting() -> Any:
    a, b = put(ramp(8), "x"), put(ramp(16), "y")
    return [a[:, None] * b, jnp.outer(a, b), jnp.meshgrid(a, b), a[:, None] > b[None]]


def case_integers() -> Any:
    x = put(1 + ramp(16, dtype=np.uint32), "x")
    return [
        x // 3,
        x % 5,
        x << 2,
        x ^ 0xFF,
        ~x,
        lax.population_count(x),
        lax.clz(x),
        jnp.gcd(x, 12),
        x.view(jnp.int32) >> 1,
    ]


def case_iteration_and_unpacking() -> Any:
    x = put(ramp(4, 4), "x")
    a, *rest = x
    return [
        a,
        len(rest),
        [float(v.sum()) for v in x],
        x.tolist(),
        np.asarray(x, np.int32),
        x.item(5),
        bool((x >= 0).all()),
    ]


def case_one_hot_and_masks() -> Any:
    x = put(ramp(8, dtype=np.int32), "x")
    return [jax.nn.one_hot(x, 10), jnp.tril(jnp.ones((4, 4))), jnp.eye(3, 5, 1), jnp.select([x > 4, x > 2], [x, -x], 0)]


def case_shards_of_results() -> Any:
    return [shards(jax.jit(lambda x: x[::-1])(put(ramp(16), ("x", "y")))), shards(put(ramp(8, 8), "y") + 1)]
