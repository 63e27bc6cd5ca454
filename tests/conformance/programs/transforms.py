"""Differentiation, batching and control flow, on sharded inputs."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _common import P, mesh_2x4, noise, put, ramp
from jax import lax
from jax.sharding import NamedSharding

RTOL = 2e-6


def network(params: list[jax.Array], x: jax.Array) -> jax.Array:
    for w in params[:-1]:
        x = jnp.tanh(x @ w)
    return (x @ params[-1]).sum()


def network_inputs() -> tuple[list[jax.Array], jax.Array]:
    return [put(noise(8, 16), None, "y"), put(noise(16, 8, seed=1), "y"), put(noise(8, 2, seed=2))], put(
        noise(8, 8, seed=3), "x"
    )


def case_grad() -> Any:
    return jax.jit(jax.grad(network))(*network_inputs())


def case_value_and_grad_of_both() -> Any:
    return jax.jit(jax.value_and_grad(network, argnums=(0, 1)))(*network_inputs())


def case_grad_outside_jit() -> Any:
    return jax.grad(lambda x: (jnp.sin(x) * x).sum())(put(noise(8, 8), "x", "y"))


def case_jvp_and_vjp() -> Any:
    f, x, t = (lambda v: jnp.exp(-(v**2))), put(noise(8, 8), "x", "y"), put(noise(8, 8, seed=1), "x", "y")
    y, back = jax.vjp(f, x)
    return [jax.jvp(f, (x,), (t,)), y, back(t)]


def case_linearize_and_transpose() -> Any:
    x = put(noise(8), "x")
    y, tangent = jax.linearize(lambda v: jnp.sin(v) ** 2, x)
    (back,) = jax.linear_transpose(lambda v: v @ jnp.arange(8.0), x)(jnp.float32(2))
    return [y, tangent(x), back]


def case_jacobians_and_hessian() -> Any:
    f = lambda v: jnp.stack([(v**2).sum(), jnp.prod(v), jnp.sin(v[0])])  # noqa: E731
    x = put(noise(4), "y")
    return [jax.jit(jax.jacfwd(f))(x), jax.jit(jax.jacrev(f))(x), jax.jit(jax.hessian(lambda v: f(v)[1]))(x)]


def case_vmap() -> Any:
    f = jax.vmap(lambda a, b: a @ b, in_axes=(0, None))
    g = jax.vmap(jax.vmap(jnp.dot, (0, None)), (None, 0), out_axes=1)
    a, b = put(ramp(8, 4, 4) % 5, "x"), put(ramp(4, 4) % 3, None, "y")
    return [jax.jit(f)(a, b), jax.jit(g)(a[0], b)]


def case_vmap_of_grad() -> Any:
    f = jax.grad(lambda w, x: jnp.tanh(w @ x).sum())
    return jax.jit(jax.vmap(f, (None, 0)))(put(noise(4, 8), "x"), put(noise(16, 8, seed=1), "y"))


def case_spmd_axis_name() -> Any:
    f = jax.vmap(lambda v: lax.with_sharding_constraint(v * 2, NamedSharding(mesh_2x4(), P("y"))), spmd_axis_name="x")
    return jax.jit(f)(put(ramp(8, 8), "x"))


def case_scan() -> Any:
    def step(carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        carry = 0.9 * carry + x
        return carry, carry.sum()

    x = put(noise(12, 8), None, "y")
    f = lambda c, x: lax.scan(step, c, x)  # noqa: E731
    return [jax.jit(f)(jnp.zeros(8), x), jax.jit(jax.grad(lambda c: f(c, x)[1].sum()))(jnp.ones(8))]


def case_scan_reverse_unrolled() -> Any:
    return lax.scan(lambda c, x: (c + x, c * x), jnp.zeros(4), put(ramp(6, 4), "x"), reverse=True, unroll=3)


def case_associative_scan_and_cumulative() -> Any:
    x = put(ramp(16, 4) % 5, "x", "y")
    return [lax.associative_scan(jnp.maximum, x), jnp.cumsum(x, 0), jnp.cumprod(x % 3, 1), lax.cummin(x, 0)]


def case_while_loop() -> Any:
    f = lambda x: lax.while_loop(lambda c: c[1].sum() < 1000, lambda c: (c[0] + 1, c[1] * 2), (0, x))  # noqa: E731
    return jax.jit(f)(put(1 + ramp(8), "x"))


def case_fori_loop() -> Any:
    f = lambda x: lax.fori_loop(0, 7, lambda i, v: v.at[i].add(v[i - 1]), x)  # noqa: E731
    return jax.jit(f)(put(ramp(8, 4), None, "y"))


def case_cond_and_switch() -> Any:
    x = put(ramp(8), "x")
    f = jax.jit(lambda i, v: lax.switch(i, [jnp.sin, jnp.cos, lambda u: u**2], v))
    g = jax.jit(lambda v: lax.cond(v.sum() > 3, lambda u: u + 1, lambda u: u - 1, v))
    return [f(0, x), f(1, x), f(2, x), g(x), g(-x)]


def case_map() -> Any:
    return jax.jit(lambda x: lax.map(lambda v: v @ v.T, x, batch_size=2))(put(ramp(6, 4, 4) % 5, None, "x"))


def case_remat() -> Any:
    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        layer = jax.checkpoint(lambda x: jnp.sin(x @ w), policy=jax.checkpoint_policies.dots_saveable)
        return layer(layer(x)).sum()

    return jax.jit(jax.grad(loss))(put(noise(8, 8), None, "y"), put(noise(8, 8, seed=1), "x"))


def case_custom_vjp() -> Any:
    @jax.custom_vjp
    def clip(x: jax.Array, limit: float) -> jax.Array:
        return x

    clip.defvjp(lambda x, limit: (x, limit), lambda limit, g: (jnp.clip(g, -limit, limit), None))
    return jax.jit(jax.grad(lambda x: (clip(x, 0.5) ** 3).sum()))(put(noise(8, 8), "x", "y"))


def case_custom_jvp() -> Any:
    @jax.custom_jvp
    def softplus(x: jax.Array) -> jax.Array:
        return jnp.log1p(jnp.exp(x))

    softplus.defjvps(lambda t, y, x: t * jax.nn.sigmoid(x))
    return jax.jit(jax.vmap(jax.grad(softplus)))(put(noise(16), "x"))


def case_custom_root() -> Any:
    def solve(a: jax.Array) -> jax.Array:
        newton = lambda f, x: lax.fori_loop(0, 20, lambda _, x: x - f(x) / (2 * x), x)  # noqa: E731
        return lax.custom_root(lambda x: x**2 - a, jnp.float32(2), newton, lambda g, y: y / g(1.0))

    return jax.jit(jax.value_and_grad(solve))(put(np.float32(7)))


def case_closure_of_arrays() -> Any:
    w = put(noise(8, 8), "x", "y")
    return jax.jit(lambda x: w @ x + w.sum())(put(noise(8), "y"))


def case_grad_accumulation() -> Any:
    params, x = network_inputs()

    @functools.partial(jax.jit, donate_argnums=0)
    def add(total: Any, x: jax.Array) -> Any:
        return jax.tree.map(jnp.add, total, jax.grad(network)(params, x))

    total = jax.tree.map(jnp.zeros_like, params)
    for _ in range(5):
        total = add(total, x)
    return total
