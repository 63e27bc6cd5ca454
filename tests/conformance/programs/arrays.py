"""What an array knows of itself, how it is made of parts, and how it ends."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _common import P, error_of, line, mesh_2x4, noise, place, put, ramp, shards
from jax.sharding import NamedSharding


def case_placements() -> Any:
    xs = [put(ramp(8, 16), *spec) for spec in [(), ("x",), (None, "y"), ("y", "x"), (("x", "y"),)]]
    return [place(x) for x in [*xs, jnp.ones(3), jnp.float32(2), jax.device_put(1, jax.devices()[3])]]


def case_devices() -> Any:
    d = jax.devices()
    return [
        len(d), jax.device_count(), jax.local_device_count(), jax.process_count(), jax.process_index(),
        [x.device_kind for x in d], [x.process_index for x in d], sorted(x.id for x in d) == [x.id for x in d],
        len({x.id for x in d}), d[0].platform, len(jax.local_devices()),
    ]  # fmt: skip


def case_sharding_of_array() -> Any:
    x = put(ramp(8, 16), "x", "y")
    s = x.sharding
    return [
        str(s.spec), str(s.mesh.shape), s.shard_shape(x.shape), len(s.device_set), s.is_fully_replicated,
        len(x.global_shards), x.nbytes, x.itemsize, x.ndim, x.size, len(x),
        s.is_equivalent_to(put(x, "x", "y").sharding, 2),
    ]  # fmt: skip


def case_format_and_layout() -> Any:
    xs = [put(ramp(8, 16), "x", "y"), jnp.ones((2, 3, 4)), jnp.float32(1), jax.jit(jnp.transpose)(put(ramp(8, 4), "x"))]
    return [str(x.format.layout) for x in xs]


def case_layout_asked_for() -> Any:
    from jax.experimental.layout import Format, Layout

    x = jax.device_put(ramp(4, 6), Format(Layout((1, 0)), jax.sharding.SingleDeviceSharding(jax.devices()[4])))
    y = jax.jit(lambda x: x + 1, out_shardings=Format(Layout((1, 0)), x.sharding))(x)
    return [x, str(x.format.layout), y, str(y.format.layout), x.T @ x]


def case_delete() -> Any:
    x, y = put(ramp(8), "x"), put(ramp(8), "y")
    before = x.is_deleted()
    x.delete()
    return [before, x.is_deleted(), y.is_deleted(), error_of(lambda: x + 1), error_of(np.asarray, x), x.shape, y]


def case_delete_twice_and_results_stay() -> Any:
    x = put(ramp(8), "x")
    y = x * 2
    x.delete()
    x.delete()
    return y


def case_delete_before_it_is_computed() -> Any:
    f = jax.jit(lambda x: jax.lax.fori_loop(0, 50, lambda _, v: jnp.sin(v), x))
    x = put(noise(8, 64), "x", "y")
    for _ in range(5):
        y = f(x)
        y.delete()
    return [y.is_deleted(), x]


def case_donation() -> Any:
    step = jax.jit(lambda x, k: x * k + 1, donate_argnums=0)
    x = put(ramp(8, 8), "x", "y")
    first = x
    for k in range(5):
        x = step(x, float(k))
    # Reading it, not computing with it: jaxlib 0.10.2 may crash over eight devices of its own.
    return [x, first.is_deleted(), x.is_deleted(), error_of(np.asarray, first)]


def case_donation_of_tree() -> Any:
    tree = {"a": put(ramp(8), "x"), "b": put(ramp(4, 4), "y")}
    ones = jax.tree.map(jnp.ones_like, tree)
    new = jax.jit(lambda t, g: jax.tree.map(jnp.add, t, g), donate_argnums=0)(tree, ones)
    return [new, [v.is_deleted() for v in tree.values()], [v.is_deleted() for v in ones.values()]]


def case_donation_that_cannot_be_used() -> Any:
    import warnings

    x = put(ramp(8, 8), "x")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        y = jax.jit(lambda x: x.sum(), donate_argnums=0)(x)
    return [y, len(seen), [str(w.message).split(".")[0] for w in seen]]


def case_donation_twice_is_refused() -> Any:
    x = jnp.arange(8.0)  # on one device: plain JAX may crash over eight
    return error_of(jax.jit(lambda a, b: (a + 1, b + 1), donate_argnums=(0, 1)), x, x).split(":")[0]


def case_copies() -> Any:
    x = put(ramp(8, 8), "x", "y")
    copies = [jnp.copy(x), jnp.array(x, copy=True), x.copy()]
    x.delete()
    return [copies, [place(c) for c in copies]]


def case_ready() -> Any:
    x = jax.jit(lambda x: x @ x.T)(put(noise(64, 64), "x"))
    x.block_until_ready()
    return [x.is_ready(), jax.block_until_ready([x, {"k": x}])[0] is x, x.copy_to_host_async()]


def case_device_get() -> Any:
    x = put(ramp(8, 8), "x", "y")
    return jax.device_get({"a": x, "b": [x.sum(), 3]})


def case_from_callback() -> Any:
    x = ramp(8, 16)
    made = [
        jax.make_array_from_callback(x.shape, NamedSharding(mesh_2x4(), P(*spec)), lambda index: x[index])
        for spec in [(), ("x",), ("y", "x"), (None, ("x", "y"))]
    ]
    return [made, [shards(m)[4] for m in made]]


def case_from_single_device_arrays() -> Any:
    x, sharding = ramp(8, 16), NamedSharding(mesh_2x4(), P("y", "x"))
    parts = [jax.device_put(x[i], d) for d, i in sharding.addressable_devices_indices_map(x.shape).items()]
    y = jax.make_array_from_single_device_arrays(x.shape, sharding, parts)
    return [y, y + 1, shards(y), parts[3]]


def case_from_process_local_data() -> Any:
    sharding = NamedSharding(mesh_2x4(), P("x"))
    return jax.make_array_from_process_local_data(sharding, ramp(8, 4))


def case_taken_apart_and_put_together() -> Any:
    x = put(ramp(8, 8), "x", "y")
    doubled = [s.data * 2 for s in x.addressable_shards]
    return jax.make_array_from_single_device_arrays(x.shape, x.sharding, doubled)


def case_shards_outlive_the_whole() -> Any:
    x = put(ramp(16), ("x", "y"))
    parts = [s.data for s in x.addressable_shards]
    del x
    return [p + 1 for p in parts]


def case_put_to_several() -> Any:
    xs = [ramp(4) + i for i in range(8)]
    sharded = jax.device_put_sharded(xs, jax.devices()) if hasattr(jax, "device_put_sharded") else jnp.stack(xs)
    return np.asarray(sharded)


def case_live_arrays() -> Any:
    before = len(jax.live_arrays())
    keep = [put(ramp(8), "x") for _ in range(5)]
    grown = len(jax.live_arrays()) - before
    del keep
    return [grown, len(jax.live_arrays()) - before]


def case_text() -> Any:
    x = put(ramp(2, 4), "x", "y")
    return [
        str(x),
        repr(x),
        f"{x.sum():.2f}",
        str(x.aval),
        hash(x.sharding) == hash(put(ramp(2, 4), "x", "y").sharding),
    ]


def case_numpy_meets_jax() -> Any:
    x = put(ramp(8), "x")
    return [
        np.sin(x),
        np.add(x, np.ones(8)),
        np.concatenate([x, x]),
        np.asarray(x).flags.writeable,
        x.__array__().sum(),
    ]


def case_pickle_and_deepcopy() -> Any:
    import copy
    import pickle

    x = put(ramp(8), "x")
    return [pickle.loads(pickle.dumps(x)), copy.deepcopy(x)]


def case_many_small() -> Any:
    xs = [put(np.float32(i)) for i in range(200)]
    return [sum(float(x) for x in xs[::20]), jnp.stack(xs)]


def case_default_device() -> Any:
    with jax.default_device(jax.devices()[5]):
        x = jnp.arange(4.0)
    return [x, place(x), place(x + 1)]


def case_empty_line() -> Any:
    return [put(ramp(0, 4), None, "i", mesh=line(1, 6)).shape, jnp.zeros((0,)).sum()]
