"""Functions of this process that the compiler calls while it partitions a program over both hosts."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _common import P, line, mesh_2x4, noise, place, put, ramp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding

RTOL = 1e-5
_BATCHED = "... i -> ... i"
"""What Shardy is told of an FFT."""


def _but_last(shaped: Any) -> NamedSharding:
    """As it is, with nothing cut along the last dimension."""
    return NamedSharding(shaped.sharding.mesh, P(*shaped.sharding.spec[: len(shaped.shape) - 1]))


def _fft(calls: list[Any], lower: Any = jnp.fft.fft) -> Any:
    """An FFT along the last dimension that leaves the others cut; `calls` gets what the compiler asked."""

    def partition(mesh: Any, operands: Any, result: Any) -> Any:
        calls.append((dict(mesh.shape), [(x.shape, str(x.dtype), str(x.sharding.spec)) for x in operands]))
        kept = _but_last(operands[0])
        return mesh, lower, kept, (kept,)

    @custom_partitioning
    def fft(x: jax.Array) -> jax.Array:
        return jnp.fft.fft(x)

    fft.def_partition(partition, sharding_rule=_BATCHED)
    return fft


def case_custom_partitioning() -> Any:
    calls: list[Any] = []
    x = put(noise(8, 4, 16).astype(np.complex64), "x", "y")
    y = jax.jit(_fft(calls))(x)
    return y, place(y), calls


def case_custom_partitioning_gathers_only_what_it_must() -> Any:
    texts = []
    for spec in (("i", None), (None, "i")):
        x = put(noise(8, 16).astype(np.complex64), *spec, mesh=line(*range(8)))
        text = jax.jit(_fft([])).lower(x).compile().as_text()
        assert text is not None
        texts.append(sorted(set(re.findall("all-gather|all-to-all|all-reduce", text))))
    return texts


def case_custom_partitioning_in_a_loop_and_twice() -> Any:
    calls: list[Any] = []
    fft = _fft(calls)

    @jax.jit
    def f(x: jax.Array) -> jax.Array:
        x = jax.lax.fori_loop(0, 3, lambda _, y: fft(y) / 4, x)
        return fft(x).real

    return f(put(noise(8, 16).astype(np.complex64), "x", "y")), len(calls)


def case_custom_partitioning_of_a_tuple_with_a_reduction() -> Any:
    def partition(mesh: Any, operands: Any, result: Any) -> Any:
        def lower(x: jax.Array) -> Any:
            return jax.lax.psum(x.sum(axis=0), "x"), jax.lax.pmax(x.max(axis=0), "x")

        columns = NamedSharding(mesh, P("y"))
        return mesh, lower, (columns, columns), (NamedSharding(mesh, P("x", "y")),)

    @custom_partitioning
    def f(x: jax.Array) -> Any:
        return x.sum(axis=0), x.max(axis=0)

    f.def_partition(partition, sharding_rule="i j -> j, j", reduction_factors=("i",))
    results = jax.jit(f)(put(ramp(8, 4), "x", "y"))
    return results, [place(each) for each in results]


def _message(lower: Any) -> Any:
    try:
        jax.jit(_fft([], lower))(put(noise(8, 16).astype(np.complex64), "x"))
    except Exception as error:
        words = ("INTERNAL", "custom_partitioner", "no FFT today", "Mismatch in result shapes")
        return type(error).__name__, [word for word in words if word in str(error)]
    return "nothing was raised"


def _raises(x: Any) -> Any:
    raise RuntimeError("no FFT today")


def case_custom_partitioning_that_fails() -> Any:
    again = jax.jit(_fft([]))(put(noise(8, 16).astype(np.complex64), "x"))
    return _message(_raises), _message(lambda x: x[:1]), again


def case_custom_partitioning_without_shardy() -> Any:
    asked: list[str] = []

    def partition(mesh: Any, operands: Any, result: Any) -> Any:
        asked.append("partition")
        kept = _but_last(operands[0])
        return mesh, lambda x: (jnp.fft.fft(x), x.sum(axis=-1)), (kept, kept), (kept,)

    def infer(mesh: Any, operands: Any, result: Any) -> Any:
        asked.append("infer")
        return _but_last(operands[0]), _but_last(operands[0])

    def propagate(mesh: Any, user: Any) -> Any:
        asked.append("propagate")
        return jax.tree.map(lambda x: x.sharding, user)

    @custom_partitioning
    def f(x: jax.Array) -> Any:
        return jnp.fft.fft(x), x.sum(axis=-1)

    f.def_partition(partition, infer_sharding_from_operands=infer, propagate_user_sharding=propagate)
    jax.config.update("jax_use_shardy_partitioner", False)
    try:
        results = jax.jit(f)(put(noise(8, 4, 16).astype(np.complex64), "x", "y"))
    finally:
        jax.config.update("jax_use_shardy_partitioner", True)
    return results, [place(each) for each in results], asked


def case_inspect_array_sharding() -> Any:
    seen: list[str] = []

    @jax.jit
    def f(x: jax.Array) -> jax.Array:
        y = jnp.sin(x)
        jax.debug.inspect_array_sharding(y, callback=lambda s: seen.append(f"first {s.spec} {dict(s.mesh.shape)}"))
        z = jax.lax.with_sharding_constraint(y.T, NamedSharding(mesh_2x4(), P("y")))
        jax.debug.inspect_array_sharding(z, callback=lambda s: seen.append(f"second {s.spec}"))
        return z + 1

    return f(put(ramp(8, 4), "x", "y")), sorted(seen)


def case_inspect_array_sharding_eagerly_and_on_one_device() -> Any:
    seen: list[str] = []
    x = put(ramp(8, 4), "x")
    jax.debug.inspect_array_sharding(x, callback=lambda s: seen.append(str(s.spec)))

    @jax.jit
    def f(x: jax.Array) -> jax.Array:
        jax.debug.inspect_array_sharding(x, callback=lambda s: seen.append(str(len(s.device_set))))
        return x + 1

    return f(ramp(3)), seen


def case_inspect_array_sharding_beside_a_host_callback() -> Any:
    seen: list[str] = []
    got: list[int] = []

    @jax.jit
    def f(x: jax.Array) -> jax.Array:
        jax.debug.inspect_array_sharding(x, callback=lambda s: seen.append(str(s.spec)))
        jax.debug.callback(lambda total: got.append(int(total)), x.sum())
        return x * 2

    y = f(put(ramp(8, 4), "x", "y"))
    jax.effects_barrier()
    return y, seen, set(got)


def case_inspect_array_sharding_that_fails() -> Any:
    def fail(sharding: Any) -> None:
        raise RuntimeError("not to be inspected")

    @jax.jit
    def f(x: jax.Array) -> jax.Array:
        jax.debug.inspect_array_sharding(x, callback=fail)
        return x * 2

    try:
        f(put(ramp(8, 4), "x", "y"))
    except Exception as error:
        return type(error).__name__, "not to be inspected" in str(error), "Error calling inspect_sharding" in str(error)
    return "nothing was raised"
