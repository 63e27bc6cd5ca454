"""What JAX answers, as JSON: `python answers_client.py plain` on this process's CPU devices, or `cluster`.

The two are to answer alike. What cannot be alike, such as how many requests something takes, is asserted here.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.extend.backend
import jax.numpy as jnp
import numpy as np
from jax._src import monitoring
from jax._src.array import ArrayImpl
from jax._src.compilation_cache import reset_cache
from jax._src.lax import parallel
from jax.experimental import serialize_executable
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import polypath

ANSWERS: dict[str, Any] = {}


def answer(name: str, ask: Callable[[], Any]) -> None:
    """Note what `ask` gives or raises."""
    try:
        ANSWERS[name] = str(ask())
    except Exception as error:
        ANSWERS[name] = f"{type(error).__name__}: {error}"


def refuse(_: Any) -> None:
    raise RuntimeError("DATA_LOSS")


def somebody_elses_function() -> None:
    """Put in place before JAX has a backend, and called all the same."""
    with mock.patch.object(ArrayImpl, "block_until_ready", refuse):
        answer("wrapped wait", lambda: jnp.arange(4.0).block_until_ready())
    jax.extend.backend.clear_backends()  # The next finds JAX's own in its place.
    answer("wait", lambda: jnp.arange(4.0).block_until_ready())


def devices() -> None:
    for device in jax.devices():
        answer(f"{device.id} str", lambda device=device: str(device))
        answer(f"{device.id} repr", lambda device=device: repr(device))
        answer(f"{device.id} hardware", lambda device=device: device.local_hardware_id)
        for memory in device.addressable_memories():
            answer(f"{device.id} {memory.kind}", lambda memory=memory: f"{memory} {memory!r}")
    answer("memory", jax.devices()[0].memory_stats)
    client = jax.devices()[0].client
    answer("by hardware id", lambda: client.device_from_local_hardware_id(3))
    answer("by a wrong hardware id", lambda: client.device_from_local_hardware_id(99))


def arrays(mesh: Any) -> None:
    x = jnp.arange(4.0)
    answer("cuda", lambda: x.__cuda_array_interface__)
    answer("has cuda", lambda: hasattr(x, "__cuda_array_interface__"))
    answer("dlpack out", lambda: np.from_dlpack(x))
    answer("dlpack in", lambda: jnp.from_dlpack(np.arange(4, dtype=np.float32)) + x)
    same, other = jnp.asarray(x), x.copy()
    answer("pointer of the same", lambda: x.unsafe_buffer_pointer() == same.unsafe_buffer_pointer())
    answer("pointer of a copy", lambda: x.unsafe_buffer_pointer() == other.unsafe_buffer_pointer())
    was = other.unsafe_buffer_pointer()
    reused = jax.jit(lambda y: y * 2, donate_argnums=0)(other)
    answer("pointer after donation", lambda: reused.unsafe_buffer_pointer() == was)
    if sys.version_info >= (3, 12):
        answer("buffer", lambda: bytes(memoryview(x)))
        answer("buffer is not to be written to", lambda: memoryview(x).readonly)
        answer("buffer of another type", lambda: memoryview(jnp.ones(3, jnp.bfloat16)))
        answer("buffer of shards", lambda: memoryview(jax.device_put(x, NamedSharding(mesh, P("i")))))
    donate = jax.jit(lambda y: y + 1, donate_argnums=0)
    for name, y in (
        ("deleted", x + 1),
        ("donated", x + 2),
        ("sharded", jax.device_put(x, NamedSharding(mesh, P("i")))),
    ):
        if name == "donated":
            donate(y)
        else:
            y.delete()
        answer(f"{name} is deleted", y.is_deleted)
        answer(f"{name} wait", y.block_until_ready)
        answer(f"{name} wait for several", lambda y=y: jax.block_until_ready([y, x]))
        answer(f"{name} read", lambda y=y: np.asarray(y))
        answer(f"{name} device_get", lambda y=y: jax.device_get([x, y]))
        answer(f"{name} copy", lambda y=y: jax.device_put(y, jax.devices()[1]))


def kept_and_given_away(mesh: Any) -> None:
    """What a callback was given is used after it, and what is put elsewhere is given away or not."""
    x = jnp.arange(4.0)
    kept: list[Any] = []
    jax.jit(lambda v: jax.debug.callback(kept.append, v))(x)
    jax.effects_barrier()
    answer("a callback's argument, used later", lambda: kept[0] + x)
    cut = NamedSharding(mesh, P("i"))
    turned = NamedSharding(jax.sharding.Mesh(np.array(jax.devices()[::-1]), ("i",)), P("i"))
    for name, target in (("stays", cut), ("moves", NamedSharding(mesh, P())), ("is turned", turned)):
        given = jax.device_put(x, cut)
        answer(
            f"what {name} when donated", lambda given=given, target=target: jax.device_put(given, target, donate=True)
        )
        answer(f"what {name} is given away", given.is_deleted)
        answer(f"what {name}, read", lambda given=given: np.asarray(given))


@contextlib.contextmanager
def counted(event: str) -> Iterator[list[str]]:
    seen: list[str] = []

    def listen(name: str, **_: Any) -> None:
        if name == event:
            seen.append(name)

    monitoring.register_event_listener(listen)
    yield seen
    monitoring.unregister_event_listener(listen)


def programs(mesh: Any, explicit: Any) -> None:
    x = jnp.arange(4.0)
    compiled = jax.jit(lambda y: y * 3 + 1).lower(x).compile()
    answer("cost", lambda: jax.jit(lambda y: y @ y).lower(jnp.ones((8, 8))).cost_analysis()["flops"])
    answer("modules", lambda: [module.name for module in compiled.runtime_executable().hlo_modules()])
    again = serialize_executable.deserialize_and_load(
        *serialize_executable.serialize(compiled), execution_devices=jax.devices()[:1]
    )
    answer("loaded again", lambda: again(x))
    over = NamedSharding(mesh, P("i"))
    twice = jax.jit(lambda y: y * 2, out_shardings=over).lower(jax.device_put(x, over)).compile()
    again = serialize_executable.deserialize_and_load(*serialize_executable.serialize(twice))
    answer("loaded again, over all", lambda: again(jax.device_put(x, over)))

    with jax.set_mesh(explicit):
        gather = jax.shard_map(
            lambda y: parallel.all_gather_start(y, "i", tiled=True).done().sum()[None],
            out_specs=P("i"),
            check_vma=False,
        )
        started = jax.jit(gather)
        answer("async collective", lambda: started(jnp.arange(4.0, out_sharding=P("i"))))
        shaped = started.lower(jnp.arange(4.0, out_sharding=P("i"))).compile()
        again = serialize_executable.deserialize_and_load(*serialize_executable.serialize(shaped))
        answer("async collective, loaded again", lambda: again(jnp.arange(4.0, out_sharding=P("i"))))


def compilation_cache(folder: str) -> None:
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    reset_cache()  # It was looked for, and not there.
    with warnings.catch_warnings(record=True) as seen, counted("/jax/compilation_cache/cache_hits") as hits:
        warnings.simplefilter("always")
        answer("cached", lambda: jax.jit(lambda y: y * 5 + 1)(jnp.arange(4.0)))
        jax.clear_caches()
        answer("from the cache", lambda: jax.jit(lambda y: y * 5 + 1)(jnp.arange(4.0)))
    ANSWERS["cache"] = [str(each.message) for each in seen], bool(hits), any(Path(folder).iterdir())


def many_small_arrays(mesh: Any, cluster: polypath.Cluster | None) -> None:
    """Of several types, shapes and shardings, some of them read before, freed or deleted meanwhile."""
    cut, whole = NamedSharding(mesh, P("i")), NamedSharding(mesh, P())
    every = jax.devices()
    made = [jax.device_put(np.full((3, k % 4), k, "f4"), every[k % 4]) for k in range(60)]
    made += [
        jax.device_put(np.arange(8, dtype=kind) + k, cut if k % 2 else whole) for k, kind in enumerate("bhil" * 15)
    ]
    made += [jnp.full((5,), k, jnp.bfloat16) for k in range(60)] + [jnp.asarray(k % 2 == 0) for k in range(60)]
    made += [jax.device_put(np.arange(16).reshape(4, 4) + k, NamedSharding(mesh, P(None, "i"))) for k in range(60)]
    for array in made[::7]:
        array.copy_to_host_async()
    float(made[-1][0, 0])
    got = jax.device_get(made)
    answer("device_get", lambda: [(str(each.dtype), each.tolist()) for each in got])
    answer("device_get is not to be written to", lambda: {each.flags.writeable for each in got})
    answer(
        "read later",
        lambda: all(np.array_equal(each, np.asarray(array)) for each, array in zip(got, made, strict=True)),
    )

    (fresh := made[0] + 1).copy_to_host_async()
    kept = [each + 1 for each in made[:20]]
    for each in kept:
        each.copy_to_host_async()
    del fresh
    kept[3].delete()
    answer("device_get with one deleted", lambda: jax.device_get(kept))
    answer("device_get of the others", lambda: [each.tolist() for each in jax.device_get(kept[:3] + kept[4:])])

    many = jax.jit(lambda start: [start + k for k in range(400)])(jnp.zeros(2))
    jax.block_until_ready(many)
    before = requests(cluster)
    answer("many", lambda: [each.tolist() for each in jax.device_get(many)])
    asked = requests(cluster) - before
    assert asked < 30, f"{asked} requests for {len(many)} arrays"


def requests(cluster: polypath.Cluster | None) -> int:
    return 0 if cluster is None else cluster.status().frontend.requests


def main() -> None:
    with contextlib.ExitStack() as stack:
        cluster = None
        if sys.argv[1] == "cluster":
            cluster = stack.enter_context(polypath.start(hosts=2, devices_per_host=2, platform="cpu"))
        somebody_elses_function()
        assert len(jax.devices()) == 4
        mesh = jax.sharding.Mesh(np.array(jax.devices()), ("i",))
        devices()
        arrays(mesh)
        kept_and_given_away(mesh)
        programs(mesh, jax.make_mesh((4,), ("i",)))
        many_small_arrays(mesh, cluster)
        compilation_cache(stack.enter_context(tempfile.TemporaryDirectory()))
    print(json.dumps(ANSWERS))


if __name__ == "__main__":
    main()
