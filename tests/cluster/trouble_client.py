"""What fails is one clear error, a donated array is gone, and the session goes on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from raised import error_of

TOO_BIG = "RESOURCE_EXHAUSTED: Out of memory allocating"


def unknown(x: jax.Array) -> Any:
    return jax.ffi.ffi_call("no_such_target", jax.ShapeDtypeStruct(x.shape, x.dtype))(x)


def check_failures(kept: jax.Array) -> None:
    message = error_of(lambda: jax.block_until_ready(jax.jit(unknown)(kept)))
    assert "no_such_target" in message, message
    assert len(message.splitlines()) == 1, message
    enormous = jax.jit(lambda: jnp.zeros((1 << 21, 1 << 21)))
    message = error_of(lambda: jax.block_until_ready(enormous()))
    assert message.startswith(TOO_BIG), message
    message = error_of(lambda: jax.block_until_ready(jax.jit(lambda z: z.sum() + 1)(enormous())))
    assert message.startswith(TOO_BIG), message


def check_donation() -> None:
    sharding = NamedSharding(jax.make_mesh((4,), ("x",)), P("x"))
    x = jax.device_put(np.arange(8.0, dtype=np.float32), sharding)
    y = jax.jit(lambda x: x * 2, donate_argnums=0)(x)
    assert (x.is_deleted(), y.is_deleted()) == (True, False)
    assert "deleted" in error_of(lambda: np.asarray(x + 1), RuntimeError, ValueError)
    assert np.asarray(y).tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


kept = jnp.arange(4.0)
check_failures(kept)
check_donation()
assert np.asarray(kept + 1).tolist() == [1, 2, 3, 4]
print("done")
