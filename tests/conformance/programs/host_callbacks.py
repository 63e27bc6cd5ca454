"""Functions of this process that programs call: from every transformation, and over both hosts."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _common import P, line, mesh_2x4, put, ramp
from jax.experimental import io_callback
from jax.experimental.buffer_callback import buffer_callback

RTOL = 1e-6


def _like(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _host_sin(x: np.ndarray) -> np.ndarray:
    return np.sin(np.asarray(x))


@jax.custom_jvp
def _sin(x: jax.Array) -> jax.Array:
    return jax.pure_callback(_host_sin, _like(x), x, vmap_method="expand_dims")


@_sin.defjvp
def _sin_jvp(primals: Any, tangents: Any) -> Any:
    return _sin(primals[0]), jnp.cos(primals[0]) * tangents[0]


def _printed(run: Any) -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        run()
        jax.effects_barrier()
    return out.getvalue().splitlines()


def case_pure_callback() -> Any:
    return jax.jit(_sin)(ramp(3, 4))


def case_pure_callback_eager() -> Any:
    return _sin(jnp.asarray(ramp(5)))


def case_pure_callback_vmap() -> Any:
    return jax.jit(jax.vmap(_sin))(ramp(3, 4))


def case_pure_callback_vmap_sequential() -> Any:
    calls: list[tuple[int, ...]] = []

    def double(x: Any) -> Any:
        calls.append(np.shape(x))
        return np.asarray(x) * 2

    f = jax.vmap(lambda x: jax.pure_callback(double, _like(x), x, vmap_method="sequential"))
    return jax.block_until_ready(jax.jit(f)(ramp(3, 4))), calls


def case_pure_callback_grad() -> Any:
    return jax.jit(jax.grad(lambda x: _sin(x).sum()))(ramp(6))


def case_pure_callback_scan() -> Any:
    return jax.jit(lambda x: jax.lax.scan(lambda c, y: (c + _sin(y), c), jnp.float32(0), x))(ramp(7))


def case_pure_callback_cond_and_while() -> Any:
    def f(x: jax.Array) -> Any:
        x = jax.lax.cond(x.sum() > 3, _sin, lambda y: y, x)
        return jax.lax.while_loop(lambda y: y.sum() < 20, lambda y: y + jnp.abs(_sin(y)) + 1, x)

    return jax.jit(f)(ramp(4))


def case_pure_callback_tree_of_dtypes() -> Any:
    tree = {"a": np.arange(3, dtype=np.int8), "b": (np.array([True, False]), np.zeros((0, 2), np.float16))}
    specs = jax.tree.map(_like, tree)
    doubled = jax.jit(lambda t: jax.pure_callback(lambda u: jax.tree.map(np.asarray, u), specs, t))(tree)
    wide = jnp.arange(3, dtype=jnp.bfloat16)
    return doubled, jax.jit(lambda x: jax.pure_callback(lambda y: np.asarray(y) + y, _like(x), x))(wide).astype(float)


def case_pure_callback_that_uses_jax() -> Any:
    def solve(x: Any) -> Any:
        return np.asarray(jnp.linalg.norm(jnp.asarray(x)) + jax.jit(jnp.sum)(x))

    return jax.jit(lambda x: jax.pure_callback(solve, jax.ShapeDtypeStruct((), jnp.float32), x))(ramp(4))


def case_pure_callback_raises() -> Any:
    def fail(_: Any) -> Any:
        raise ValueError("no such thing as 7 here")

    try:
        jax.block_until_ready(jax.jit(lambda x: jax.pure_callback(fail, _like(x), x))(ramp(2)))
    except jax.errors.JaxRuntimeError as error:
        return "ValueError: no such thing as 7 here" in str(error), "in fail" in str(error)
    return "nothing was raised"


def case_pure_callback_wrong_shape() -> Any:
    try:
        jax.block_until_ready(jax.jit(lambda x: jax.pure_callback(lambda y: np.zeros(3), _like(x), x))(ramp(2)))
    except jax.errors.JaxRuntimeError as error:
        return "Incorrect output shape for return value" in str(error)
    return "nothing was raised"


def case_pure_callback_shard_map_over_hosts() -> Any:
    seen: list[float] = []

    def double(x: Any) -> Any:
        seen.append(float(np.asarray(x).sum()))
        return np.asarray(x) * 2

    def f(x: jax.Array) -> Any:
        y = jax.pure_callback(double, _like(x), x)
        return y, jax.lax.psum(y.sum(), ("x", "y"))

    g = jax.shard_map(f, mesh=mesh_2x4(), in_specs=P("x", "y"), out_specs=(P("x", "y"), P()), check_vma=False)
    out = jax.block_until_ready([jax.jit(g)(put(ramp(4, 8) + i, "x", "y")) for i in range(5)])
    return out, sorted(seen)


def case_pure_callback_sharded_jit() -> Any:
    calls: list[tuple[int, ...]] = []

    def double(x: Any) -> Any:
        calls.append(np.shape(x))
        return np.asarray(x) * 2

    f = jax.jit(lambda x: jax.pure_callback(double, _like(x), x))
    return jax.block_until_ready(f(put(ramp(8, 8), "x", "y"))), calls


def case_io_callback_unordered() -> Any:
    seen: list[int] = []
    f = jax.jit(lambda x: io_callback(lambda y: seen.append(int(y)), None, x))
    for i in range(5):
        f(i)
    jax.effects_barrier()
    return sorted(seen)


def case_io_callback_ordered() -> Any:
    seen: list[int] = []

    def log(i: Any) -> Any:
        seen.append(int(i))
        return np.int32(len(seen))

    def body(c: jax.Array, i: jax.Array) -> Any:
        n = io_callback(log, jax.ShapeDtypeStruct((), jnp.int32), i, ordered=True)
        return c + n, n

    f = jax.jit(lambda c: jax.lax.scan(body, c, jnp.arange(4)))
    first, second = f(jnp.int32(0)), f(jnp.int32(10))
    jax.effects_barrier()
    return first, second, seen


def case_io_callback_ordered_on_another_device() -> Any:
    seen: list[int] = []
    f = jax.jit(lambda x: io_callback(lambda y: seen.append(int(y)), None, x, ordered=True))
    for i, device in enumerate((0, 5, 2, 7)):
        f(jax.device_put(jnp.int32(i), jax.devices()[device]))
    jax.effects_barrier()
    return seen


def case_io_callback_ordered_after_one_that_raised() -> Any:
    seen: list[int] = []

    def log(i: Any) -> Any:
        seen.append(int(i))
        if seen == [0, 1]:
            raise RuntimeError("the disk is full")
        return i

    f = jax.jit(lambda x: io_callback(log, jax.ShapeDtypeStruct((), jnp.int32), x, ordered=True))
    results: list[int] = []
    for _ in range(6):  # The failure may be told of by its result, and by the next call.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            results.append(int(f(jnp.int32(len(results)))))
    jax.effects_barrier()
    return seen[:5], results[:4]


def case_io_callback_fails_in_barrier() -> Any:
    def fail(_: Any) -> None:
        raise RuntimeError("the disk is full")

    try:
        jax.jit(lambda x: io_callback(fail, None, x))(1)
        jax.effects_barrier()
    except jax.errors.JaxRuntimeError as error:
        return "RuntimeError: the disk is full" in str(error)
    return "nothing was raised"


def case_debug_print() -> Any:
    @jax.jit
    def f(x: jax.Array) -> jax.Array:
        jax.debug.print("x is {x} and {y:.2f}", x=x, y=x.sum())
        return x

    return _printed(lambda: f(ramp(3)))


def case_debug_print_ordered_in_a_loop() -> Any:
    def body(i: jax.Array, x: jax.Array) -> jax.Array:
        jax.debug.print("{i}: {x}", i=i, x=x, ordered=True)
        return x * 2

    return _printed(lambda: jax.jit(lambda x: jax.lax.fori_loop(0, 4, body, x))(1.0))


def case_debug_print_in_grad_and_vmap() -> Any:
    def f(x: jax.Array) -> jax.Array:
        jax.debug.print("{x}", x=x)
        return x * x

    return sorted(_printed(lambda: jax.jit(jax.vmap(jax.grad(f)))(ramp(3))))


def case_debug_callback_once_for_each_device() -> Any:
    seen: list[list[float]] = []

    def f(x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda y: seen.append(np.asarray(y).tolist()), x)
        return jax.lax.psum(x, "i")

    g = jax.jit(jax.shard_map(f, mesh=line(0, 3, 4, 7), in_specs=P("i"), out_specs=P(), check_vma=False))
    out = g(put(ramp(8), "i", mesh=line(0, 3, 4, 7)))
    jax.effects_barrier()
    return out, sorted(seen)


def case_debug_callback_eager() -> Any:
    seen: list[Any] = []
    jax.debug.callback(lambda x: seen.append(np.asarray(x)), jnp.arange(3))
    jax.effects_barrier()
    return seen


def case_buffer_callback() -> Any:
    def add(_context: Any, out: Any, x: Any, y: Any) -> None:
        assert out.writeable
        assert not x.writeable
        np.asarray(out)[...] = np.asarray(x) + np.asarray(y)

    f = buffer_callback(add, jax.ShapeDtypeStruct((4,), np.float32))
    return jax.jit(f)(ramp(4), ramp(4))
