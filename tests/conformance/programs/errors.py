"""What goes wrong is told in the same words."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _common import P, error_of, mesh_2x4, put, ramp
from jax.experimental import checkify


def case_shapes_at_trace_time() -> Any:
    a, b = put(ramp(8, 4), "x"), put(ramp(8, 4), "y")
    return [error_of(jax.jit(jnp.matmul), a, b), error_of(jnp.reshape, a, (5,)), error_of(jnp.concatenate, [a, a[0]])]


def case_tracers() -> Any:
    x = put(ramp(8), "x")
    leaked: list[Any] = []
    jax.jit(leaked.append)(x)
    return [
        error_of(jax.jit(lambda v: v if v.sum() > 0 else -v), x), error_of(jax.jit(lambda v: v[v > 1]), x),
        error_of(jax.jit(np.asarray), x), error_of(lambda: leaked[0] + 1),
    ]  # fmt: skip


def case_types() -> Any:
    x = put(ramp(8), "x")
    return [error_of(jnp.sin, "text"), error_of(jax.jit(lambda v: "no"), x), error_of(jax.grad(lambda v: v), x)]


def case_unknown_axis() -> Any:
    f = jax.shard_map(lambda v: jax.lax.psum(v, "z"), mesh=mesh_2x4(), in_specs=P("x"), out_specs=P())
    return [error_of(jax.jit(f), ramp(8)), error_of(put, ramp(8), "z")]


def case_checkify() -> Any:
    def f(x: jax.Array) -> jax.Array:
        checkify.check(jnp.all(x > 0), "found {low}, which is not positive", low=x.min())
        return jnp.log(x)

    checked = jax.jit(checkify.checkify(f))
    (bad, _), (good, y) = checked(put(ramp(8) - 2, "x")), checked(put(1 + ramp(8), "x"))
    return [bad.get().splitlines()[0], good.get(), y, error_of(bad.throw)]


def case_checkify_automatic() -> Any:
    f = jax.jit(checkify.checkify(lambda x, i: jnp.log(x)[i] / x.min(), errors=checkify.all_checks))
    found = [f(put(x), i)[0].get() for x, i in ((ramp(4), 1), (1 + ramp(4), 2), (1 + ramp(4), 9), (ramp(4) - 2, 0))]
    return [None if text is None else text.split(" at ")[0].splitlines()[0] for text in found]


def case_checkify_in_scan() -> Any:
    def step(total: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        checkify.check(total < 5, "the total is {t}", t=total)
        return total + x, total

    error, _ = jax.jit(checkify.checkify(lambda x: jax.lax.scan(step, 0.0, x)))(put(ramp(8), "x"))
    return error.get().splitlines()[0]


def case_debug_nans() -> Any:
    x = put(ramp(8) - 1, "x")
    quiet = jax.jit(jnp.log)(x)
    with jax.debug_nans(True):
        told = error_of(jax.jit(jnp.log), x)
        fine = jax.jit(jnp.exp)(x)
    return [quiet, told, fine]


def case_debug_infs() -> Any:
    with jax.debug_infs(True):
        return error_of(jax.jit(lambda x: 1 / x), put(ramp(8), "x"))


def case_deleted_input() -> Any:
    x, y = put(ramp(8), "x"), put(ramp(8), "x")
    x.delete()
    return [
        error_of(jax.jit(jnp.add), x, y),
        error_of(x.block_until_ready),
        error_of(jax.device_put, x, jax.devices()[0]),
        y,
    ]


def case_errors_do_not_stick() -> Any:
    x = put(ramp(8), "x")
    told = [error_of(jax.jit(lambda v: v @ v.reshape(2, 4)), x) for _ in range(3)]
    return [told, jax.jit(lambda v: v * 2)(x)]


def case_out_of_bounds_is_clamped() -> Any:
    x = put(ramp(8), "x")
    return [x[100], x[jnp.array([-100, 3])], x.at[50].get(mode="fill", fill_value=-1)]


def case_division_by_zero() -> Any:
    x = put(ramp(8, dtype=np.int32), "x")
    return [jax.jit(lambda a: 7 // a)(x)[1:], jax.jit(lambda a: 1.0 / a)(x)]


def case_python_exceptions_pass() -> Any:
    def f(x: jax.Array) -> jax.Array:
        raise KeyError("mine")

    return [error_of(jax.jit(f), put(ramp(8), "x")), error_of(jax.vmap(f), put(ramp(8), "x"))]
