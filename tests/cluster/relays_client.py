"""A client of three real hosts of which nobody has more than two below: two relays. Prints `ok` at the end."""

from __future__ import annotations

import os
import signal

import jax
import numpy as np
import psutil
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import polypath

HOSTS = 3


def check_told(error: Exception) -> None:
    assert "was lost" in str(error), error


def doubled(data: np.ndarray, cut: NamedSharding) -> list[float]:
    """The same on a cluster that is whole again: with a relay all its hosts are lost, and told of one by one."""
    for _ in range(HOSTS):
        try:
            return np.asarray(jax.jit(lambda a: a * 2, out_shardings=cut)(jax.device_put(data, cut))).tolist()
        except jax.errors.JaxRuntimeError as error:
            check_told(error)
    raise AssertionError("more hosts were lost than there are")


def main() -> None:
    with polypath.start(HOSTS, 2, "cpu", fanout=2) as cluster:
        mesh = Mesh(np.array(jax.devices()), ("x",))
        cut = NamedSharding(mesh, P("x"))
        data = np.arange(6, dtype=np.float32)
        step = jax.jit(jax.shard_map(lambda a: a + jax.lax.psum(a, "x"), mesh=mesh, in_specs=P("x"), out_specs=P("x")))
        assert np.asarray(step(jax.device_put(data, cut))).tolist() == [15, 16, 17, 18, 19, 20]
        head = psutil.Process(cluster._head.pid)
        for module in ("polypath.worker", "polypath.transport.relay"):
            killed = next(p for p in head.children() if p.cmdline()[-1] == module)
            x = jax.device_put(data, cut).block_until_ready()  # Else it may come after the loss, and nothing is lost.
            os.kill(killed.pid, signal.SIGKILL)
            try:
                for _ in range(10_000):
                    np.asarray(x + 1)
                raise AssertionError(f"nothing was lost with a {module}")
            except jax.errors.JaxRuntimeError as error:
                check_told(error)
            assert doubled(data, cut) == [0, 2, 4, 6, 8, 10]
    print("ok")


if __name__ == "__main__":
    main()
