"""Copies of arrays are the caller's, whichever way they came: `copies_client.py links|jaxlib`."""

from __future__ import annotations

import sys

import jax
import numpy as np
import requests_made
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from raised import error_of

KINDS = 72
"""More than the client keeps programs for."""

mesh = jax.make_mesh((2, 2), ("x", "y"))
kept = np.random.default_rng(0).random((1024, 4096)).astype(np.float32)
cut, half, whole = (NamedSharding(mesh, spec) for spec in (P("y", "x"), P(None, "y"), P()))

for place in (cut, half, whole, jax.devices()[3]):
    buffer = kept.copy()
    x = jax.device_put(buffer, place)
    buffer[...] = 0  # The caller's again.
    first = np.array(x)
    assert first.flags.writeable
    np.testing.assert_array_equal(first, kept)
    first[...] = 0
    np.testing.assert_array_equal(np.array(x), kept)
    np.testing.assert_array_equal(np.asarray(x), kept)
    second = np.array(x)
    assert second.flags.writeable
    assert not np.shares_memory(second, np.asarray(x))
    np.testing.assert_array_equal(second, kept)
    np.testing.assert_array_equal(np.array(x, dtype=np.float64), kept.astype(np.float64))
    assert np.asarray(x, dtype=np.float32) is np.asarray(x)
    x.copy_to_host_async()
    np.testing.assert_array_equal(np.array(x), kept)

# Each shard by itself, in memory of its own.
x = jax.make_array_from_callback(kept.shape, half, lambda index: kept[index].copy())
np.testing.assert_array_equal(np.asarray(x), kept)
tree = jax.device_put({"a": kept, "b": [kept * 2, kept[:, ::3]]}, whole)
np.testing.assert_array_equal(np.asarray(tree["b"][1]), kept[:, ::3])
np.testing.assert_array_equal(np.asarray(tree["b"][0]), kept * 2)
gone = jax.device_put(kept)
gone.delete()
assert "deleted" in error_of(lambda: np.array(gone))
for n in range(KINDS):
    assert float(jax.device_put(kept[: 128 + n])[-1, -1]) == kept[127 + n, -1]
assert any(requests_made.puts) == (sys.argv[1] == "links")
print("done")
