"""shard_map with every collective, across hosts and within one; pmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _common import P, line, mesh_2x4, noise, put, ramp, shards
from jax import lax

RTOL = 1e-6
AXES = ["x", "y", ("x", "y")]


def on_mesh(f: Callable[..., Any], in_specs: Any, out_specs: Any, mesh: Any = None) -> Callable[..., Any]:
    return jax.jit(jax.shard_map(f, mesh=mesh or mesh_2x4(), in_specs=in_specs, out_specs=out_specs, check_vma=False))


def each_axis(f: Callable[[jax.Array, Any], jax.Array], x: np.ndarray) -> dict[str, Any]:
    spec = P(("x", "y"))
    return {str(axis): on_mesh(lambda v, a=axis: f(v, a), spec, spec)(x) for axis in AXES}


def case_psum() -> Any:
    return each_axis(lax.psum, noise(16, 4))


def case_psum_of_integers() -> Any:
    return [each_axis(lax.psum, ramp(16, dtype=t)) for t in (np.int32, np.uint8, np.int16)]


def case_psum_of_small_floats() -> Any:
    return [each_axis(lax.psum, (ramp(16) % 4).astype(t)) for t in (jnp.bfloat16, np.float16)]


def case_pmean_pmax_pmin() -> Any:
    return [each_axis(f, noise(16, 2)) for f in (lax.pmean, lax.pmax, lax.pmin)]


def case_all_gather() -> Any:
    gathered = each_axis(lambda v, a: lax.all_gather(v, a).sum(axis=0), ramp(16))
    tiled = each_axis(lambda v, a: lax.all_gather(v, a, tiled=True)[::2], ramp(16, 2))
    return gathered, tiled


def case_psum_scatter() -> Any:
    x = ramp(64, 8)
    return [
        each_axis(lambda v, a: lax.psum_scatter(v, a, tiled=True), x),
        each_axis(lambda v, a: lax.psum_scatter(v, a, scatter_dimension=1, tiled=True), x),
    ]


def case_ppermute() -> Any:
    def ring(v: jax.Array, axis: Any) -> jax.Array:
        n = lax.axis_size(axis)
        return lax.ppermute(v, axis, [(i, (i + 1) % n) for i in range(n)])

    return each_axis(ring, ramp(16, 3))


def case_ppermute_in_part() -> Any:
    return each_axis(lambda v, a: lax.ppermute(v, a, [(0, 1)]), 1 + ramp(16))


def case_all_to_all() -> Any:
    return each_axis(lambda v, a: lax.all_to_all(v, a, 0, 0, tiled=True), ramp(64, 2))


def case_all_to_all_other_axis() -> Any:
    spec = P(("x", "y"))
    f = on_mesh(lambda v: lax.all_to_all(v, ("x", "y"), 1, 0, tiled=True), spec, spec)
    return f(ramp(8, 16))


def case_axis_index() -> Any:
    f = on_mesh(lambda v: v * 0 + lax.axis_index("x") * 10 + lax.axis_index("y"), P("x", "y"), P("x", "y"))
    return f(ramp(2, 4, dtype=np.int32))


def case_two_axes_mixed() -> Any:
    def f(a: jax.Array, b: jax.Array) -> jax.Array:
        return lax.psum(a @ lax.all_gather(b, "x", tiled=True), "y")

    g = on_mesh(f, (P("x", "y"), P(("y", "x"))), P("x"))
    return g(ramp(8, 16) % 5, ramp(16, 4) % 3)


def case_matmul_by_rotation() -> Any:
    def f(a: jax.Array, b: jax.Array) -> jax.Array:
        def step(i: int, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            total, b = carry
            k = (lax.axis_index("i") - i) % 8
            part = lax.dynamic_slice_in_dim(a, k * b.shape[0], b.shape[0], axis=1) @ b
            return total + part, lax.ppermute(b, "i", [(j, (j + 1) % 8) for j in range(8)])

        return lax.fori_loop(0, 8, step, (jnp.zeros((a.shape[0], b.shape[1])), b))[0]

    g = on_mesh(f, (P("i"), P("i")), P("i"), line(*range(8)))
    return g(ramp(8, 16) % 5, ramp(16, 8) % 3)


def case_collectives_in_loop() -> Any:
    def f(v: jax.Array) -> jax.Array:
        return lax.scan(lambda c, _: (lax.pmean(c, "x") + lax.pmax(c, "y") * 0.5, c.sum()), v, None, length=5)[0]

    return on_mesh(f, P("x", "y"), P("x", "y"))(noise(4, 8))


def case_collective_under_cond() -> Any:
    def f(v: jax.Array) -> jax.Array:
        return lax.cond(v.shape[0] > 1, lambda u: lax.psum(u, "y"), lambda u: u, v)

    return on_mesh(f, P("x", "y"), P("x"))(ramp(8, 8))


def case_grad_through() -> Any:
    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        inner = jax.shard_map(
            lambda w, x: lax.psum(jnp.tanh(x @ w).sum(), ("x", "y")),
            mesh=mesh_2x4(), in_specs=(P(), P(("x", "y"))), out_specs=P(),
        )  # fmt: skip
        return inner(w, x)

    return jax.jit(jax.value_and_grad(loss))(noise(4, 3), noise(16, 4, seed=1))


def case_vma_checked() -> Any:
    f = jax.shard_map(lambda v: lax.psum(v, "x"), mesh=mesh_2x4(), in_specs=P("x", "y"), out_specs=P(None, "y"))
    return jax.jit(f)(ramp(8, 8))


def case_partly_automatic() -> Any:
    f = jax.shard_map(
        lambda v: lax.psum(v, "x") + 1,
        mesh=mesh_2x4(), in_specs=P("x"), out_specs=P(), axis_names={"x"},
    )  # fmt: skip
    return jax.jit(f)(put(ramp(8, 8), "x", "y"))


def case_one_host_only() -> Any:
    f = [on_mesh(lambda v: lax.psum(v, "i"), P("i"), P(), line(*part)) for part in ((0, 1, 2, 3), (4, 5, 6, 7))]
    return [g(ramp(8, 2)) for g in f]


def case_part_of_both_hosts() -> Any:
    f = on_mesh(lambda v: lax.all_gather(v, "i", tiled=True) * 2, P("i"), P(None), line(2, 3, 4, 5))
    g = on_mesh(lambda v: lax.psum(v, "i"), P("i"), P(), line(1, 6))
    return [f(ramp(8)), g(ramp(8, 2))]


def case_reversed_devices() -> Any:
    mesh = line(*reversed(range(8)))
    y = on_mesh(lambda v: v + lax.axis_index("i") * 100, P("i"), P("i"), mesh)(ramp(16))
    return [y, shards(y)]


def case_shuffled_devices() -> Any:
    mesh = line(3, 6, 0, 5, 7, 1, 4, 2)
    f = on_mesh(lambda v: lax.ppermute(v, "i", [(i, (i + 3) % 8) for i in range(8)]), P("i"), P("i"), mesh)
    return [f(ramp(16)), shards(f(ramp(16)))]


def case_collectives_of_many_arrays() -> Any:
    f = on_mesh(lambda *vs: [lax.psum(v, "x") for v in vs], P("x"), P())
    return f(*[ramp(4, i + 1) for i in range(12)])


def case_pmap() -> Any:
    x = ramp(8, 3)
    y = jax.pmap(lambda v: lax.psum(v, "i") + lax.axis_index("i"), axis_name="i")(x)
    z = jax.pmap(lambda v, k: v * k, in_axes=(0, None))(y, 2.0)
    return [y, z, z.shape]


def case_pmap_on_four() -> Any:
    return jax.pmap(lambda v: v / lax.psum(v, "i"), axis_name="i", devices=jax.devices()[2:6])(1 + ramp(4, 3))
