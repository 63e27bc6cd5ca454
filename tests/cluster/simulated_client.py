"""A client of simulated hosts: many devices, and hosts that are lost. Prints `ok` at the end."""

from __future__ import annotations

import os
import signal
import sys

import jax
import numpy as np
import psutil
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import polypath


def check_told(error: Exception) -> None:
    assert "was lost" in str(error), error


def main(hosts: int, fanout: int, islands: int) -> None:
    with polypath.start(hosts, 4, "simulated", islands, fanout=fanout) as cluster:
        devices = jax.devices()
        assert len(devices) == 4 * hosts
        mesh = Mesh(np.array(devices[: len(devices) // islands]), ("x",))
        count = mesh.size
        cut, whole = NamedSharding(mesh, P("x")), NamedSharding(mesh, P())

        step = jax.jit(jax.shard_map(lambda a: a + jax.lax.psum(a, "x"), mesh=mesh, in_specs=P("x"), out_specs=P("x")))
        x = step(jax.device_put(np.zeros(count, np.float32), cut)).block_until_ready()
        before = cluster.status()
        for _ in range(100):
            x = step(x)
        x.block_until_ready()
        after = cluster.status()
        # A command costs the head a message for each process below it, an answer too.
        processes = -(-hosts // fanout)
        assert after.controller.executions - before.controller.executions == 100
        assert after.transport.commands - before.transport.commands <= 250 * processes
        assert after.transport.reports - before.transport.reports <= 20 * processes

        # What was put comes back, whichever way it went.
        data = np.arange(2 * count, dtype=np.float32)
        x = jax.device_put(data, cut)
        assert (np.asarray(x) == data).all()
        assert (np.asarray(jax.device_put(x, whole)) == data).all()
        half = count // 2
        here, there = (NamedSharding(Mesh(part, ("x",)), P("x")) for part in np.split(mesh.devices, 2))
        moved = jax.device_put(jax.device_put(data[:half], here), there)
        assert (np.asarray(moved) == data[:half]).all()
        assert [float(np.asarray(shard.data)[0]) for shard in x.addressable_shards[:3]] == [0, 2, 4]

        # A lost process takes its hosts along, and they come back.
        lost = [p for p in psutil.Process(cluster._head.pid).children(recursive=True) if _simulates(p)]
        assert len(lost) == processes
        os.kill(lost[-1].pid if islands == 1 else lost[0].pid, signal.SIGKILL)
        try:
            for _ in range(1000):
                np.asarray(step(x))
            raise AssertionError("nothing was lost")
        except jax.errors.JaxRuntimeError as error:
            check_told(error)
        again = jax.device_put(data, cut)
        assert (np.asarray(again) == data).all()
        fresh = jax.jit(lambda a: a * 2, out_shardings=cut)
        fresh(again).block_until_ready()
        assert all(host.state == "up" for host in cluster.status().controller.hosts if host.island == 0)
    print("ok")


def _simulates(process: psutil.Process) -> bool:
    return "polypath.worker.simulated" in process.cmdline()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
