"""What small arrays hold, and waiting for arrays: `small_client.py links|jaxlib`, by which way it is to go."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import requests_made
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from raised import error_of

DTYPES = (
    "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16 float32 float64 complex64 complex128 "
    "float8_e4m3fn float8_e5m2 int4 uint4"
)
LINKS = sys.argv[1] == "links"

jax.config.update("jax_enable_x64", True)
mesh = jax.make_mesh((4,), ("x",))
everywhere, cut = NamedSharding(mesh, P()), NamedSharding(mesh, P("x"))


def check_asked(times: int) -> None:
    """So many questions were answered over links since the last check."""
    assert requests_made.answers == [True] * (times if LINKS else 0), (requests_made.answers, times)
    requests_made.answers.clear()


def told(work: Callable[[], object]) -> str:
    return error_of(work, RuntimeError, ValueError)


def check_elements() -> None:
    bits = np.random.default_rng(0).integers(0, 255, 4 * 3 * 2, np.uint8)
    for name in DTYPES.split():
        a = (bits % 7).astype(jnp.dtype(name)).reshape(4, 3, 2)
        for place in (jax.devices()[0], jax.devices()[3], everywhere):
            x = jax.device_put(a, place)
            b = np.asarray(x)
            assert type(b) is np.ndarray, name
            assert (b.dtype, b.shape, b.tobytes()) == (a.dtype, a.shape, a.tobytes()), name
            assert not b.flags.writeable
            assert np.asarray(x) is b
            check_asked(1)
    for shape in ((), (0,), (3, 0), (1, 1), (500,)):
        a = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
        np.testing.assert_array_equal(np.asarray(jax.device_put(a, everywhere)), a)
        check_asked(1)
    x = jax.jit(lambda a: jnp.asarray(a).T, out_shardings=everywhere)(np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(np.asarray(x), np.arange(6).reshape(2, 3).T)
    check_asked(1)
    assert (float(jnp.float32(2) * 3), int(jnp.sum(jnp.arange(5))), bool(jnp.any(jnp.ones(3)))) == (6, 10, True)
    assert (f"{jnp.float32(0.5)}", jnp.int32(7).item(), [1, 2, 3][jnp.int32(1)]) == ("0.5", 7, 2)
    requests_made.answers.clear()


def check_waits(step: Callable[[Any], Any]) -> None:
    y = step(jax.device_put(np.arange(8.0), cut))
    assert y.block_until_ready() is y
    assert jax.block_until_ready(y) is y
    assert y.is_ready()
    check_asked(1)
    z = jnp.float32(3) + 1
    assert float(z) == 4
    assert z.is_ready() or not LINKS  # jaxlib asks the head, which may hear later.
    requests_made.answers.clear()
    y, z = step(y), step(y + 1)
    jax.block_until_ready({"y": y, "z": [z, 3]})
    jax.block_until_ready((y, z))
    check_asked(1)
    jax.block_until_ready([jnp.ones(3) for _ in range(40)])
    jax.block_until_ready((y, step(y), jnp.ones(3) + 1))  # On other devices each.
    np.testing.assert_array_equal(np.asarray(y), np.arange(8.0) + 36 + sum(np.arange(8.0) + 36) + 8)


def check_what_is_gone(there: jax.Array) -> None:
    donated = jnp.arange(8.0)
    donated.block_until_ready()
    jax.jit(lambda x: x * 2, donate_argnums=0)(donated)
    deleted = jnp.arange(8.0)
    deleted.delete()
    for each in (donated, deleted):
        assert "deleted" in told(each.block_until_ready)
        assert "deleted" in told(lambda each=each: np.asarray(each))
        assert "deleted" in told(lambda each=each: jax.block_until_ready((each, there)))


def check_failures() -> None:
    def fail(_: Any) -> Any:
        raise ValueError("what went wrong")

    looks = (np.asarray, jax.block_until_ready, lambda a: jax.block_until_ready((a, a + 1)))
    for shape in ((), (3,)):
        result = jax.ShapeDtypeStruct(shape, np.float32)
        for look in looks:
            failed = jax.jit(lambda x, result=result: jax.pure_callback(fail, result, x))(1.0)
            assert "what went wrong" in told(lambda look=look, failed=failed: look(failed))


check_elements()
check_waits(jax.jit(lambda x: (x + 1).sum() + x, out_shardings=cut))
check_what_is_gone(jnp.ones(3))
check_failures()
print("done")
