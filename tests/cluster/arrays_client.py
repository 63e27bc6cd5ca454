"""Arrays of all types, shapes, strides and shardings, there and back: `arrays_client.py links|jaxlib`.

The argument says which way they are to go.
"""

from __future__ import annotations

import sys
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
CUTS = (P(), P("x"), P("y"), P("x", "y"), P(None, "y"), P(None, None, "x"), P(("x", "y")), P(None, "x", "y"))
SHAPES = ((), (0,), (5, 0, 3), (1,), (1, 70_000), (70_000, 1), (3, 1_500_001), (1,) * 9 + (50_000,))

jax.config.update("jax_enable_x64", True)
random = np.random.default_rng(0)
small = random.integers(0, 255, (64, 32, 24), np.uint8)
big = random.integers(0, 255, (256, 128, 80), np.uint8)
mesh = jax.make_mesh((2, 2), ("x", "y"))
shardings = [NamedSharding(mesh, cut) for cut in CUTS]


def there_and_back(a: np.ndarray, *places: Any) -> None:
    for place in places or jax.devices():
        x = jax.device_put(a, place)
        b = np.asarray(x)
        assert type(b) is np.ndarray, type(b)
        assert (b.dtype, b.shape) == (x.dtype, a.shape), (b.dtype, b.shape)
        assert b.tobytes() == np.ascontiguousarray(a.astype(x.dtype)).tobytes(), (a.dtype, place)
        assert not b.flags.writeable
        assert np.asarray(x) is b


def check_kinds() -> None:
    for name in DTYPES.split():
        for bits in (small, big):
            there_and_back((bits % 7).astype(jnp.dtype(name)), jax.devices()[0])
    there_and_back(small.astype(np.float32))
    for dtype in (np.float32, jnp.bfloat16):
        there_and_back(small.astype(dtype), *shardings)
        there_and_back(big.astype(dtype), *shardings)
    for bits in (small, big):
        for a in (bits[::2, ::-1], bits.T, bits[:, 3], np.broadcast_to(bits[:1], bits.shape), np.asfortranarray(bits)):
            there_and_back(a.astype(np.float32, order="K"), jax.devices()[1])
            there_and_back(a, jax.devices()[-1])
    for shape in SHAPES:
        there_and_back(np.arange(np.prod(shape), dtype=np.float64).reshape(shape), jax.devices()[1])
    there_and_back(random.random((3, 5_000_000)), jax.devices()[2])
    keys = jax.random.split(jax.random.key(0), 20_000)
    assert np.asarray(jax.random.key_data(keys)).shape == (20_000, 2)


def check_many() -> None:
    tree = {name: jnp.full((300, 200), n, jnp.float32) for n, name in enumerate("abcdefgh")}
    assert all((a == n).all() for n, a in enumerate(jax.device_get(tree).values()))


def check_started_early() -> None:
    """What `copy_to_host_async` began is right, and of no matter where nobody reads it."""

    @jax.jit
    def takes_long(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 40, lambda _, x: jnp.sin(x) + x.sum() / 1e6, x)

    x = jax.device_put(np.ones((400, 400), np.float32), shardings[3])
    y = takes_long(x)
    y.copy_to_host_async()
    y.copy_to_host_async()
    expected = np.asarray(jnp.copy(y))
    np.testing.assert_array_equal(np.asarray(y), expected)
    deleted = takes_long(x)
    deleted.copy_to_host_async()
    deleted.delete()
    dropped = takes_long(x + 1)
    dropped.copy_to_host_async()
    del dropped
    given = takes_long(x)
    given.copy_to_host_async()
    jax.jit(lambda v: v * 0, donate_argnums=0)(given)
    assert "deleted" in error_of(lambda: np.asarray(given))
    assert "deleted" in error_of(lambda: np.asarray(deleted))


def check_failures() -> None:
    def fail(_: Any) -> Any:
        raise ValueError("what went wrong")

    failed = jax.jit(lambda x: jax.pure_callback(fail, jax.ShapeDtypeStruct((500, 500), np.float32), x))(1.0)
    assert "what went wrong" in error_of(lambda: np.asarray(failed), jax.errors.JaxRuntimeError)


check_kinds()
check_many()
check_started_early()
check_failures()
there_and_back(big.astype(np.float32), *shardings)
if sys.argv[1] == "links":
    assert len(requests_made.puts) > 40, len(requests_made.puts)
    assert len(requests_made.reads) > 60, len(requests_made.reads)
    assert all(requests_made.puts), requests_made.puts
    # All but what failed.
    assert requests_made.reads.count(False) == 1, requests_made.reads
else:
    assert not any(requests_made.puts)
    assert not any(requests_made.reads)
print("done")
