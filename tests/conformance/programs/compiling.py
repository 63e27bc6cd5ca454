"""Lowering and compiling ahead of time, what a program tells of itself, and export."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _common import P, error_of, line, mesh_2x4, noise, place, put, ramp
from jax import export
from jax.sharding import NamedSharding


def compiled() -> Any:
    s = NamedSharding(mesh_2x4(), P("x", "y"))
    f = jax.jit(lambda a, b: (a @ b.T, (a * 2).sum()), in_shardings=(s, s))
    return f.lower(jax.ShapeDtypeStruct((8, 16), jnp.float32), jax.ShapeDtypeStruct((8, 16), jnp.float32)).compile()


def case_call() -> Any:
    a = put(ramp(8, 16) % 5, "x", "y")
    y = compiled()(a, a)
    return [y, [place(v) for v in y]]


def case_wrong_arguments() -> Any:
    f = compiled()
    return [
        error_of(f, ramp(8, 16)),
        error_of(f, ramp(4, 4), ramp(4, 4)),
        error_of(f, put(ramp(8, 16)), put(ramp(8, 16))),
    ]


def case_cost_analysis() -> Any:
    cost = compiled().cost_analysis()
    return {k: float(cost[k]) for k in ("flops", "bytes accessed", "transcendentals") if k in cost}


def case_lowered_cost_analysis() -> Any:
    cost = jax.jit(jnp.matmul).lower(ramp(8, 16), ramp(16, 4)).cost_analysis()
    return float(cost["flops"])


def case_memory_analysis() -> Any:
    m = compiled().memory_analysis()
    names = "argument_size_in_bytes", "output_size_in_bytes", "alias_size_in_bytes"
    return [getattr(m, name) for name in names]


def case_text() -> Any:
    text = compiled().as_text()
    return [
        text.splitlines()[0].split(",")[0],
        "all-reduce" in text or "all-gather" in text,
        "num_partitions=8" in text,
    ]


def case_lowered_text() -> Any:
    lowered = jax.jit(lambda x: jnp.sin(x) + 1).lower(put(ramp(8, 8), "x", "y"))
    return [lowered.as_text(), str(lowered.out_info)]


def case_shardings() -> Any:
    f = compiled()
    return [str(s.spec) for s in jax.tree.leaves(f.input_shardings)] + [
        str(len(s.device_set)) for s in jax.tree.leaves(f.output_shardings)
    ]


def case_formats() -> Any:
    f = compiled()
    return [[str(x.layout) for x in jax.tree.leaves(t)] for t in (f.input_formats, f.output_formats)]


def case_trees() -> Any:
    f = compiled()
    return [str(f.in_tree), str(f.out_tree), str(f.in_avals), str(f.out_info)]


def case_donating() -> Any:
    x = put(ramp(8, 8), "x")
    f = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
    y = f(x)
    return [y, x.is_deleted(), f.memory_analysis().alias_size_in_bytes]


def case_on_one_device() -> Any:
    x = jax.device_put(ramp(4, 4), jax.devices()[6])
    f = jax.jit(lambda x: x @ x).lower(x).compile()
    return [f(x), place(f(x)), float(f.cost_analysis()["flops"])]


def case_on_part_of_both_hosts() -> Any:
    x = put(ramp(8, 4), "i", mesh=line(3, 4))
    f = jax.jit(lambda x: x.sum(0)).lower(x).compile()
    return [f(x), place(f(x))]


def case_compiler_options() -> Any:
    f = jax.jit(lambda x: x * 2).lower(ramp(8)).compile(compiler_options={"xla_cpu_enable_fast_math": False})
    return [f(ramp(8)), error_of(lambda: jax.jit(lambda x: x).lower(1.0).compile(compiler_options={"no_such": 1}))[:60]]


def case_auto_layouts() -> Any:
    from jax.experimental.layout import Format, Layout

    f = jax.jit(lambda x: x @ x, in_shardings=Format(Layout.AUTO), out_shardings=Format(Layout.AUTO))
    g = f.lower(jax.ShapeDtypeStruct((8, 8), jnp.float32)).compile()
    (layout,) = jax.tree.leaves(g.input_formats[0])
    return [str(layout.layout), g(jax.device_put(ramp(8, 8) % 3, layout))]


def exported(f: Any, *args: Any) -> Any:
    return export.deserialize(export.export(f)(*args).serialize())


def case_export() -> Any:
    f = exported(jax.jit(lambda x: jnp.sin(x) * 2), np.zeros((4, 4), np.float32))
    return [f.call(noise(4, 4)), str(f.in_avals), str(f.out_avals), list(f.platforms), f.nr_devices]


def case_export_over_mesh() -> Any:
    x = put(ramp(8, 16) % 5, "x", "y")
    f = exported(jax.jit(lambda x: x @ x.T, out_shardings=NamedSharding(mesh_2x4(), P("x"))), x)
    y = jax.jit(f.call)(x)
    return [y, place(y), f.nr_devices]


def case_export_symbolic() -> Any:
    n, m = export.symbolic_shape("n, m")
    f = exported(jax.jit(lambda x: x.sum(axis=0) + x.shape[0]), jax.ShapeDtypeStruct((n, m), np.float32))
    return [f.call(ramp(3, 4)), f.call(ramp(5, 2)), str(f.out_avals)]


def case_export_with_gradient() -> Any:
    blob = export.export(jax.jit(lambda x: (x**3).sum()))(np.zeros(4, np.float32)).serialize(vjp_order=1)
    return jax.grad(export.deserialize(blob).call)(put(ramp(4)))


def case_export_shard_map() -> Any:
    f = jax.jit(
        jax.shard_map(lambda v: jax.lax.psum(v, "x"), mesh=mesh_2x4(), in_specs=P("x", "y"), out_specs=P(None, "y"))
    )
    x = put(ramp(8, 8), "x", "y")
    return jax.jit(exported(f, x).call)(x)


def case_stages() -> Any:
    traced = jax.jit(lambda x: x * 2).trace(put(ramp(8), "x"))
    return [str(traced.jaxpr), traced.lower().compile()(put(ramp(8), "x")), str(traced.out_info)]


def case_clear_caches_and_again() -> Any:
    f = jax.jit(lambda x: x + 41)
    first = f(put(ramp(8), "x"))
    jax.clear_caches()
    return [first, f(put(ramp(8), "x"))]
