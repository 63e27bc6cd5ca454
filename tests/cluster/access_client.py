"""A client that keeps its cluster open between two programs. Run as `python access_client.py NAME`.

Three hosts of which nobody has more than two below, so that there are relays. Prints `open`, waits for a line, runs
programs over groups of hosts that ran none before, and prints `ok`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import polypath

LARGE = 1 << 20
"""Elements, which go through shared memory."""


def total(devices: Sequence[jax.Device]) -> float:
    """Summed by a collective over these devices, a host each."""
    over = NamedSharding(Mesh(np.array(devices), ("x",)), P("x"))
    ones = jax.device_put(np.ones((len(devices), LARGE), np.float32), over)
    return float(jax.jit(lambda x: x[:, :8].sum())(ones))


def main() -> None:
    with polypath.start(hosts=3, devices_per_host=1, platform="cpu", fanout=2, name=sys.argv[1]) as cluster:
        one, two, three = jax.devices()
        pids = [host.pid for host in cluster.status().controller.hosts]
        assert total([one, two, three]) == 24
        kept = jax.device_put(jnp.arange(4.0), two)
        print("open", flush=True)
        sys.stdin.readline()
        assert total([two, three]) == 16
        assert total([one, three]) == 16
        assert np.asarray(kept).tolist() == [0, 1, 2, 3]
        assert [host.pid for host in cluster.status().controller.hosts] == pids, "a worker was lost"
    print("ok", flush=True)


if __name__ == "__main__":
    main()
