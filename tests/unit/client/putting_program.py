"""The hooks of putting, with this process's CPU as the cluster: what reaches jaxlib's `batched_device_put`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import lib
from jax.sharding import NamedSharding, PartitionSpec

from polypath.client.hooks import cluster, putting

client = jax.devices()[0].client
cluster.connect(client, "")
real = lib.xla_client.batched_device_put
calls: list[list[Any]] = []
waited: list[Any] = []


def batched_device_put(aval: Any, sharding: Any, xs: Any, *rest: Any, **more: Any) -> Any:
    calls.append(list(xs))
    return real(aval, sharding, xs, *rest, **more)


def batched_block_until_ready(arrays: Any) -> None:
    waited.extend(arrays)


lib.xla_client.batched_device_put = batched_device_put
lib.xla_client.batched_block_until_ready = batched_block_until_ready
putting.install()
putting.install()  # once is enough


def reached(function: Any, *args: Any) -> list[list[Any]]:
    """What one call puts."""
    calls.clear()
    function(*args)
    return list(calls)


def is_copy(put: Any, array: Any) -> bool:
    return not np.shares_memory(put, array) and np.array_equal(put, array)


small, other = np.arange(8, dtype=np.float32), np.float32(3)
on_device = jnp.arange(8.0)
add = jax.jit(lambda v, w: v + w)

# A jitted function: Python puts numpy's arguments in the first and every later call, and no others.
for _ in range(3):
    ((put,),) = reached(add, small, on_device)
    assert is_copy(put, small)
assert [len(reached(add, on_device, on_device)) for _ in range(3)] == [0, 0, 0]
assert [len(reached(add, small, small)) for _ in range(3)] == [2, 2, 2]
# A scalar of numpy's makes an entry that an array of no dimension uses next.
zero = np.zeros((), np.float32)
reached(add, other, on_device), reached(add, other, on_device)
for _ in range(3):
    ((put,),) = reached(add, zero, on_device)
    assert is_copy(put, zero)
unused = jax.jit(lambda v, w, x: v + x, keep_unused=False)
for _ in range(3):
    ((put,),) = reached(unused, on_device, small, small)
    assert is_copy(put, small)

# A function that was compiled ahead of time.
program = add.lower(on_device, on_device).compile()
for _ in range(3):
    before = small.copy()
    made = program(small, on_device)
    small[:] = -1
    assert np.array_equal(made, before + np.arange(8.0))
    small[:] = before
assert np.array_equal(program(on_device, on_device), 2 * np.arange(8.0))

# Arrays of all kinds: with their type, and of several that are one, one copy.
mesh = jax.make_mesh((2,), ("x",))
((first, second),) = reached(jax.device_put, small, NamedSharding(mesh, PartitionSpec()))
assert first is second
assert is_copy(first, small)
((first, second),) = reached(jax.device_put, small, NamedSharding(mesh, PartitionSpec("x")))
assert is_copy(first, small[:4])
assert is_copy(second, small[4:])
for kind in (jnp.bfloat16, jnp.int4, np.complex64, np.bool_):
    assert jax.device_put(np.zeros(5, kind)).dtype == kind
assert jax.device_put(np.arange(3, dtype=np.int64)).dtype == np.int32
weak = () if issubclass(cluster.typed_array, np.ndarray) else (False,)  # since JAX 0.10, another argument
for numbers in (np.arange(3), np.arange(3)[::-1]):
    typed = cluster.typed_array(numbers, *weak)
    assert (jax.device_put(numbers).dtype, jax.device_put(typed).dtype) == (np.int32, np.int64)
for strange in (small[::-1], np.broadcast_to(small[:1], (4,)), np.zeros((0, 3)), np.asmatrix(small), np.ones((2, 3)).T):
    assert np.array_equal(jax.device_put(strange), strange)
text = np.array(["one", "two"], dtype=np.dtypes.StringDType())
((put,),) = reached(jax.device_put, text, jax.devices()[0])
assert put is not text

# A large array is not copied, and waited for; so is one that fails.
large = np.ones(putting.WAIT_BYTES // 4, np.float32)
assert not waited
((put,),) = reached(jax.device_put, large)
assert np.shares_memory(put, large)
(made,) = waited
assert np.array_equal(made, large)


def fail(_arrays: Any) -> None:
    raise jax.errors.JaxRuntimeError("DATA_LOSS")


lib.xla_client.batched_block_until_ready = fail
assert jax.device_put(large) is not None

# Another client's arrays are nobody's business here.
cluster.disconnect()
((put,),) = reached(jax.device_put, small)
assert np.shares_memory(put, small)
print("done")
