"""A loop with the obvious retry gets over lost workers. Run as `polypath run retry_client.py [stock]`.

With `stock`, JAX has none of Polypath's hooks. Fails by an assertion.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import colocated_python, io_callback

from polypath.client.status import read_status

ATTEMPTS = 4
STOCK = "stock" in sys.argv
TARGET = os.environ["JAX_BACKEND_TARGET"]
HOST = np.arange(8, dtype=np.float32)


def use_stock_client() -> None:
    """As where only jax is installed: its own proxy client, found by no plugin."""
    from jax._src import xla_bridge
    from jax.extend import backend

    os.environ["IFRT_PROXY_USE_INSECURE_GRPC_CREDENTIALS"] = "true"
    proxy: Any = backend.ifrt_proxy
    bridge: Any = xla_bridge
    bridge.discover_pjrt_plugins = lambda: None
    backend.register_backend_factory("proxy", lambda: proxy.get_client(TARGET, proxy.ClientConnectionOptions()))


def kill(*hosts: int) -> None:
    found = read_status(TARGET).controller.hosts
    for host in hosts:
        os.kill(found[host].pid, signal.SIGKILL)


def error_of(work: Callable[[], object]) -> str:
    """What goes wrong; empty if nothing does."""
    try:
        work()
    except jax.errors.JaxRuntimeError as error:
        return str(error)
    return ""


def retried(name: str, work: Callable[[], object]) -> None:
    """Each try puts its data anew, as a loop's `except` does."""
    for attempt in range(ATTEMPTS):
        error = error_of(work)
        if not error:
            print(name, "after", attempt, "failures", flush=True)
            return
        assert error.startswith("DATA_LOSS: Host "), (name, error)
    raise AssertionError(f"{name} failed {ATTEMPTS} times")


def programs() -> dict[str, Callable[[], object]]:
    """Functions of all kinds, compiled once and called again and again."""
    mesh = jax.make_mesh((4,), ("x",))
    cut, whole = jax.NamedSharding(mesh, jax.P("x")), jax.NamedSharding(mesh, jax.P())
    last = jax.devices()[-1]

    def check(found: jax.Array, wanted: np.ndarray) -> None:
        np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-6)

    step = jax.jit(lambda p: p / p.sum() + 1, donate_argnums=0)
    compiled = jax.jit(lambda p: p * p.sum()).lower(jax.device_put(HOST, cut)).compile()
    mapped = jax.jit(jax.shard_map(lambda p: jax.lax.psum(p, "x"), mesh=mesh, in_specs=jax.P("x"), out_specs=jax.P()))
    alone = jax.jit(lambda p: p - 1)
    exported = jax.export.export(jax.jit(lambda p: p + 7))(jax.ShapeDtypeStruct((8,), np.float32))

    def train() -> None:
        p = jax.device_put(HOST, cut)
        for _ in range(3):
            p = step(p)
        p.block_until_ready()

    def look() -> None:
        assert compiled.cost_analysis()
        assert "HloModule" in compiled.as_text()

    def cut_anew() -> None:
        check(jax.device_put(jax.device_put(HOST, cut), whole), HOST)

    return {
        "jit": train,
        "compiled": lambda: check(compiled(jax.device_put(HOST, cut)), HOST * HOST.sum()),
        "collective": lambda: check(mapped(jax.device_put(HOST, cut)), HOST.reshape(4, 2).sum(0)),
        "one device": lambda: check(alone(jax.device_put(HOST, last)), HOST - 1),
        "operators": lambda: check(jnp.cumsum(jax.device_put(HOST, last) * -1)[2:4], np.array([-3.0, -6.0])),
        "random": lambda: jax.random.normal(jax.random.key(1), (4,)).block_until_ready(),
        "exported": lambda: check(exported.call(jax.device_put(HOST, last)), HOST + 7),
        "texts": look,
        "reshard": cut_anew,
    } | ({} if STOCK else calling(last))


def calling(device: jax.Device) -> dict[str, Callable[[], object]]:
    """Functions that call this process."""
    shape = jax.ShapeDtypeStruct((8,), np.float32)
    seen: list[float] = []
    pure = jax.jit(lambda p: jax.pure_callback(lambda x: np.asarray(x) * 3, shape, p))
    ordered = jax.jit(lambda p: io_callback(lambda x: np.asarray(x) + 1, shape, p, ordered=True))

    @jax.jit
    def printed(p: jax.Array) -> jax.Array:
        jax.debug.callback(lambda x: seen.append(float(x)), p[1])
        return p + 1

    def told() -> None:
        before = len(seen)
        printed(jax.device_put(HOST, device)).block_until_ready()
        jax.effects_barrier()
        assert seen[before:] == [1.0]

    def in_order() -> None:
        np.testing.assert_array_equal(np.asarray(ordered(jax.device_put(HOST, device))), HOST + 1)

    def pure_too() -> None:
        np.testing.assert_array_equal(np.asarray(pure(jax.device_put(HOST, device))), HOST * 3)

    return {"pure callback": pure_too, "callback": told, "ordered callback": in_order}


def check_colocated() -> None:
    """What Python kept in a worker is gone with it, and a sentence says so."""
    device = jax.devices()[-1]
    function = colocated_python.colocated_python(lambda x: x + 1)
    assert float(function(jax.device_put(np.float32(1), device))) == 2
    lost = jax.device_put(np.float32(1), jax.devices()[0])
    kill(0)
    assert any(error_of(lambda: np.asarray(lost + 1)) for _ in range(1000))  # Now the cluster knows of the loss.
    told = [
        error_of(lambda: function(jax.device_put(np.float32(1), device)).block_until_ready()) for _ in range(ATTEMPTS)
    ]
    assert told[-1].startswith("DATA_LOSS: The colocated function <lambda> ended, with what it kept"), told
    for part in ("Host 0 of island 0 was lost", "call jax.clear_caches()"):
        assert part in told[-1], told
    jax.clear_caches()
    assert float(function(jax.device_put(np.float32(1), device))) == 2


def main() -> None:
    if STOCK:
        use_stock_client()
    every = programs()
    for name, work in every.items():
        retried(name, work)
    for hosts in ((0,), (1,), (0, 1)):
        kill(*hosts)
        for name, work in every.items():
            retried(f"{name}, without {hosts},", work)
    if not STOCK:
        check_colocated()
    assert [host.state for host in read_status(TARGET).controller.hosts] == ["up", "up"]


if __name__ == "__main__":
    main()
    print("ok")
