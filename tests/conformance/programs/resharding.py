"""Many meshes at once, and arrays on their way between them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _common import P, error_of, line, mesh_2x4, noise, place, put, ramp, shards
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding

SPECS = [(), ("x",), ("y",), ("x", "y"), ("y", "x"), (("x", "y"),), (None, ("y", "x"))]


def case_between_specs() -> Any:
    found = {}
    for a in SPECS:
        for b in SPECS:
            y = jax.device_put(put(ramp(8, 16), *a), NamedSharding(mesh_2x4(), P(*b)))
            found[f"{a} to {b}"] = [y, shards(y)[3]]
    return found


def case_between_specs_inside_jit() -> Any:
    x = put(ramp(8, 16), "x", "y")
    return [shards(jax.jit(lambda x: x, out_shardings=NamedSharding(mesh_2x4(), P(*s)))(x)) for s in SPECS]


def case_to_other_mesh_shape() -> Any:
    x = put(ramp(8, 16), "x", "y")
    other = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
    y = jax.device_put(x, NamedSharding(other, P("b", "a")))
    return [y, place(y), shards(y)]


def case_to_permuted_devices() -> Any:
    x = put(ramp(16, 2), "i", mesh=line(*range(8)))
    found = []
    for order in [(7, 6, 5, 4, 3, 2, 1, 0), (0, 4, 1, 5, 2, 6, 3, 7), (3, 6, 0, 5, 7, 1, 4, 2)]:
        y = jax.device_put(x, NamedSharding(line(*order), P("i")))
        found.append([y, shards(y), place(y)])
    return found


def case_donated_to_another_order_of_devices() -> Any:
    """Which sources live on, and what came of them."""
    forth, back, square = line(*range(8)), line(*reversed(range(8))), mesh_2x4()
    places = {
        "forth": NamedSharding(forth, P("i")),
        "back": NamedSharding(back, P("i")),
        "whole": NamedSharding(forth, P()),
        "whole, back": NamedSharding(back, P()),
        "square": NamedSharding(square, P(("x", "y"))),
    }
    moves = [
        ("forth", "back"), ("back", "forth"), ("back", "square"), ("whole", "whole, back"), ("forth", "forth"),
        ("forth", "square"), ("forth", "whole, back"), ("back", "whole"),
    ]  # fmt: skip
    found: dict[str, Any] = {}
    for source, target in moves:
        x = jax.device_put(ramp(64), places[source])
        moved = jax.device_put(x, places[target], donate=True)
        found[f"{source} to {target}"] = moved, moved.block_until_ready() is moved and x.is_deleted()
    return found


def case_to_fewer_and_more_devices() -> Any:
    found = []
    for source in [(0, 1, 2, 3), (2, 3, 4, 5), (0,), (7, 1), range(8)]:
        for target in [(4, 5, 6, 7), (5, 2), (6,), range(8)]:
            x = put(ramp(16, 4), "i", mesh=line(*source))
            y = jax.device_put(x, NamedSharding(line(*target), P("i")))
            z = jax.device_put(x, NamedSharding(line(*target), P(None, "i") if len(target) <= 4 else P()))
            found.append([y, shards(y), z, place(z)])
    return found


def case_single_device_and_back() -> Any:
    x = jax.device_put(ramp(8, 8), jax.devices()[5])
    y = jax.device_put(x, NamedSharding(mesh_2x4(), P("x", "y")))
    z = jax.device_put(y, jax.devices()[2])
    w = jax.device_put(z, SingleDeviceSharding(jax.devices()[7]))
    return [x, y, z, w, place(x), place(y), place(z), place(w)]


def case_hop_over_every_device() -> Any:
    x = jnp.arange(5.0)
    for device in [*jax.devices(), *reversed(jax.devices())]:
        x = jax.device_put(x + 1, device)
    return [x, place(x)]


def case_meshes_at_once() -> Any:
    f = jax.jit(lambda x: jnp.sin(x) @ x.T)
    left, right, cross, one = line(0, 1, 2, 3), line(4, 5, 6, 7), line(3, 4), line(6)
    xs = [put(ramp(8, 4) % 5, "i", mesh=mesh) for mesh in (left, right, cross, one)]
    ys = [f(x) for _ in range(3) for x in xs]
    joined = [jax.device_put(y, NamedSharding(left, P(None, "i"))) for y in ys[:4]]
    return [ys, jax.jit(lambda *v: sum(v))(*joined), [place(y) for y in ys[:4]]]


def case_pipeline_between_hosts() -> Any:
    left, right = (NamedSharding(line(*part), P("i")) for part in ((0, 1, 2, 3), (4, 5, 6, 7)))
    stage = jax.jit(lambda x: x * 2 + 1)
    xs = [jax.device_put(ramp(8) + i, left) for i in range(6)]
    return [stage(jax.device_put(stage(x), right)) for x in xs]


def case_one_device_of_each_host() -> Any:
    x = put(ramp(4, 4), "i", mesh=line(0, 4))
    f = jax.jit(lambda x: [x.sum(), x.T, x @ x])
    return [f(x), f(put(ramp(4, 4), None, "i", mesh=line(5, 2))), shards(x)]


def case_mixed_devices_are_refused() -> Any:
    a, b = put(ramp(8), "i", mesh=line(0, 1)), put(ramp(8), "i", mesh=line(4, 5))
    return [
        error_of(jax.jit(jnp.add), a, b).split(" for ")[0],
        error_of(jnp.add, a, jax.device_put(1.0, jax.devices()[3]))[:40],
    ]


def case_uneven_is_refused() -> Any:
    return error_of(put, ramp(9), "x")


def case_of_every_small_type() -> Any:
    found = []
    for dtype in (jnp.int4, jnp.bool_, jnp.bfloat16, jnp.int16, jnp.complex64, jnp.float8_e4m3fn):
        x = put((ramp(8, 8) % 2).astype(dtype), "x", "y")
        found.append([jax.device_put(x, NamedSharding(mesh_2x4(), P(*spec))) for spec in SPECS])
    return found


def case_three_dimensions() -> Any:
    x = put(ramp(4, 8, 4), "x", None, "y")
    cube = Mesh(np.array(jax.devices()).reshape(2, 2, 2), ("a", "b", "c"))
    y = jax.device_put(x, NamedSharding(cube, P("c", "a", "b")))
    z = jax.device_put(y, NamedSharding(cube, P(("c", "b"), "a")))
    return [y, z, shards(y), shards(z)]


def case_many_at_once() -> Any:
    tree = {str(i): put(ramp(8, i + 1), "x") for i in range(12)}
    moved = jax.device_put(tree, NamedSharding(line(7, 5, 3, 1), P("i")))
    copied = jax.device_put([*moved.values()], jax.devices()[0])
    return [moved, copied]


def case_donated_put() -> Any:
    x = put(ramp(8, 8), "x")
    y = jax.device_put(x, NamedSharding(mesh_2x4(), P("y")), donate=True)
    return [y, x.is_deleted()]


def case_aliasing_put() -> Any:
    x = put(ramp(8, 8), "x")
    jax.device_put(x, x.sharding, may_alias=True)
    z = jax.device_put(x, x.sharding, may_alias=False)
    x.delete()
    return z


def case_memory_kinds() -> Any:
    kinds = sorted(m.kind for m in jax.devices()[0].addressable_memories())
    found = {"kinds": kinds, "default": jax.devices()[0].default_memory().kind}
    x = put(noise(8, 8), "x", "y")
    for kind in kinds:
        y = jax.device_put(x, NamedSharding(mesh_2x4(), P("x", "y"), memory_kind=kind))
        z = jax.device_put(y, x.sharding)
        found[kind] = [y, place(y), z + 1, place(z)]
    return found


def case_from_host_to_memory_kind() -> Any:
    s = SingleDeviceSharding(jax.devices()[6], memory_kind="pinned_host")
    x = jax.device_put(ramp(4, 4), s)
    return [x, x.sharding.memory_kind, jax.device_put(x, jax.devices()[1]) * 2]


def case_loop_of_reshards() -> Any:
    x = put(ramp(16, 8), "x")
    for spec in SPECS * 3:
        x = jax.device_put(x * 1.5 % 17, NamedSharding(mesh_2x4(), P(*spec)))
    return x
