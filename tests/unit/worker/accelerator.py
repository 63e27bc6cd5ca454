"""Run as a process: an executor over a client that says it is an accelerator's, with CPU devices beside it."""

from __future__ import annotations

import sys

import jax
import numpy as np
from pretend import pretend

from polypath.types import HOST_CPU
from polypath.worker import jaxlib
from polypath.worker.config import WorkerConfig
from polypath.worker.executors.pjrt import PjrtExecutor
from polypath.worker.jaxlib import users
from polypath.worker.waits import Waits

pretend("fast", 2)
config = WorkerConfig(
    host=1, island=0, node=0, nodes=1, first_device=4, platform="fast", devices=2, cache_dir=sys.argv[1]
)
executor = PjrtExecutor(config, Waits())

assert executor.platform.name == "fast"
found = [
    (device.id, device.local_index, device.platform, device.attributes["colocation_id"]) for device in executor.devices
]
beside = [(HOST_CPU + 4, 2, "cpu", 4), (HOST_CPU + 5, 3, "cpu", 5)]
assert found == [(4, 0, "fast", 4), (5, 1, "fast", 5), *beside], found

# Functions find the second client's devices, under our ids.
clients = {id_: executor._by_id[id_].client for id_ in (4, HOST_CPU + 4)}
assert clients[4] is not clients[HOST_CPU + 4]
assert jax.devices() == clients[HOST_CPU + 4].devices()
pickled = users._pickled._serialize(jax.sharding.SingleDeviceSharding(jax.devices()[1]))
assert str(HOST_CPU + 5).encode() in pickled or (HOST_CPU + 5).to_bytes(4, "little") in pickled
assert jaxlib.unpickle(pickled).device_set == {jax.devices()[1]}

# Arrays are put, read and copied there; from the accelerator only over the host's memory.
data = np.arange(6, dtype=np.float32).reshape(2, 3)
shard = executor.put(data, HOST_CPU + 5, "", (0, 1))
np.testing.assert_array_equal(executor.fetch(executor.copy(shard, HOST_CPU + 4, "")), data)
assert executor.copies(HOST_CPU + 4, HOST_CPU + 5)
assert executor.copies(4, 5)
assert not executor.copies(4, HOST_CPU + 4)
assert executor.memory_kind(shard) == executor.devices[3].memory_kinds[0]

# What is held of an accelerator's array, to be read later, takes nothing of its memory, and outlives it.
shard = executor.put(data, 5, "", None)
held = executor.hold(shard)
assert executor.memory_kind(shard) != "pinned_host"
assert executor.memory_kind(held) == "pinned_host"
assert executor.can_hold(shard)
executor.delete(shard)
np.testing.assert_array_equal(executor.fetch(held), data)
