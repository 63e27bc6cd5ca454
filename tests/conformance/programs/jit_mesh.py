"""jit over a mesh: partition specs, constraints, output shardings, many arguments."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _common import P, mesh_2x4, place, put, ramp, shards
from jax.sharding import AxisType, NamedSharding

SPECS = [
    (), ("x",), ("y",), (None, "x"), (None, "y"), ("x", "y"), ("y", "x"),
    (("x", "y"),), (("y", "x"),), (None, ("x", "y")), (None, None, "y"), ("y", None, "x"),
]  # fmt: skip


def case_every_spec_in() -> Any:
    f = jax.jit(lambda x: (x * 2 + 1, x.sum(axis=0)))
    return {str(spec): f(put(ramp(8, 16, 8), *spec)) for spec in SPECS}


def case_every_spec_out() -> Any:
    found = {}
    for spec in SPECS:
        y = jax.jit(lambda x: x * 3, out_shardings=NamedSharding(mesh_2x4(), P(*spec)))(ramp(8, 16, 8))
        found[str(spec)] = [y, shards(y)[5], str(y.sharding.spec), place(y)]
    return found


def case_constraint() -> Any:
    @jax.jit
    def f(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = jax.lax.with_sharding_constraint(x @ x.T, NamedSharding(mesh_2x4(), P("y", "x")))
        return y, jax.lax.with_sharding_constraint(y + 1, NamedSharding(mesh_2x4(), P(None, "y")))

    y, z = f(put(ramp(8, 16) % 7, "x", "y"))
    return [y, z, place(y), place(z)]


def case_in_shardings() -> Any:
    s = [NamedSharding(mesh_2x4(), P("x")), NamedSharding(mesh_2x4(), P(None, "y"))]
    f = jax.jit(lambda a, b: a @ b, in_shardings=s, out_shardings=NamedSharding(mesh_2x4(), P("x", "y")))
    y = f(ramp(8, 8) % 5, ramp(8, 8) % 3)
    return [y, place(y)]


def case_matmuls() -> Any:
    a, b = ramp(8, 16) % 5, ramp(16, 8) % 7
    f = jax.jit(jnp.matmul)
    return [f(put(a, *s), put(b, *t)) for s in SPECS[:9] for t in (("x",), ("y", "x"))]


def case_explicit_axes() -> Any:
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(AxisType.Explicit, AxisType.Explicit))
    with jax.set_mesh(mesh):
        x = jax.device_put(ramp(8, 16) % 5, P("x", "y"))
        y = jax.jit(lambda x: jnp.sin(x).T)(x)
        z = jax.sharding.reshard(y, P("x"))
        return [y, str(jax.typeof(y)), z, str(jax.typeof(z)), jnp.einsum("ij,kj->ik", x, x, out_sharding=P("x", None))]


def case_make_mesh_context() -> Any:
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(mesh):
        y = jax.jit(lambda x: jax.lax.with_sharding_constraint(x + 1, P("d")))(jnp.arange(16.0))
    return [y, place(y)]


def case_uncommitted_and_single() -> Any:
    x = jnp.arange(6.0)
    y = jax.jit(lambda x: x[::-1] * 2)(x)
    z = jax.jit(lambda x: x + 1)(jax.device_put(x, jax.devices()[6]))
    return [y, place(y), z, place(z), place(x)]


def case_shared_compilation_many_calls() -> Any:
    f = jax.jit(lambda x, k: x * k + 1)
    x = put(np.zeros(16, np.float32), ("x", "y"))
    for k in range(60):
        x = f(x, float(k % 3))
    return x


def case_three_hundred_arguments() -> Any:
    arrays = [put(np.full((8,), i, np.float32), "x" if i % 2 else "y") for i in range(300)]
    total = jax.jit(lambda *xs: functools.reduce(jnp.add, xs))(*arrays)
    many = jax.jit(lambda *xs: [x + 1 for x in xs])(*arrays)
    return [total, many[0], many[150], many[299], len(many)]


def case_trees() -> Any:
    tree = {"a": put(ramp(8), "x"), "b": [put(ramp(4, 4), "y"), None], "c": (jnp.float32(3),)}
    return jax.jit(lambda t: jax.tree.map(lambda v: v * 2, t))(tree)


def case_static_and_keywords() -> Any:
    @functools.partial(jax.jit, static_argnames=("n", "mode"))
    def f(x: jax.Array, n: int, *, mode: str = "wrap") -> jax.Array:
        return jnp.pad(x, n, mode=mode)

    return [f(put(ramp(8), "x"), 2), f(put(ramp(8), "x"), n=3, mode="reflect")]


def case_no_arguments_no_results() -> Any:
    zeros = jax.jit(lambda: jnp.zeros((8, 8)), out_shardings=NamedSharding(mesh_2x4(), P("x", "y")))()
    return [zeros, place(zeros), jax.jit(lambda x: ())(zeros), jax.jit(lambda x: (x, x, 3.0))(zeros)]


def case_unused_and_forwarded() -> Any:
    x, y = put(ramp(8), "x"), put(ramp(4, 4), "y")
    a, b, c = jax.jit(lambda x, y, z: (y, x + 1, y))(x, y, 5)
    return [a, b, c, place(a), place(c)]


def case_keep_unused() -> Any:
    return jax.jit(lambda x, y: x * 2, keep_unused=True)(put(ramp(8), "x"), put(ramp(4), "y"))


def case_uneven_matmul_inside() -> Any:
    f = jax.jit(lambda x: (x @ x.T)[:5, :7] + jnp.arange(7.0))
    return f(put(ramp(8, 4) % 3, "x", "y"))


def case_eval_shape_and_hlo() -> Any:
    f = jax.jit(lambda x: jnp.tanh(x).sum())
    shape = jax.eval_shape(f, jnp.ones((4, 4)))
    return [str(shape), str(jax.make_jaxpr(f)(jnp.ones((4, 4))))]


def case_disable_jit() -> Any:
    with jax.disable_jit():
        return jax.jit(lambda x: jnp.where(x > 2, x, -x))(jnp.arange(5))
