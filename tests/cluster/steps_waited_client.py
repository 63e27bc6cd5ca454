"""Programs that are waited for one by one, as a training loop does, and what may come between."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from raised import error_of

mesh = jax.make_mesh((4,), ("x",))
cut = NamedSharding(mesh, P("x"))
one, wide = jnp.int32(1), jnp.zeros(5000)
many = jax.device_put(np.arange(8.0, dtype=np.float32), cut)

add = jax.jit(lambda x, n: x + n)
pair = jax.jit(lambda x: {"sum": x.sum(), "all": [x + k for k in range(39)]})
state = jax.jit(lambda x, n: (x, [x + n, x * n], x.sum() + n))  # Its argument is handed on as it is.


def check_results() -> None:
    waited = [add(one, n).block_until_ready() for n in range(5)]
    spread = [jax.block_until_ready(add(many, n)) for n in range(5)]
    assert all(y.is_ready() for y in waited + spread)
    assert [int(y) for y in waited] == [1, 2, 3, 4, 5]
    assert [int(add(one, n)) for n in range(5)] == [1, 2, 3, 4, 5]
    for _ in range(3):
        found = pair(many)
        jax.block_until_ready(found)
        np.testing.assert_array_equal(found["all"][38], np.arange(8.0) + 38)
        assert float(found["sum"]) == 28
    for n in range(5):
        same, (added, _), loss = state(many, n)
        assert float(loss) == 28 + n
        np.testing.assert_array_equal(same, np.arange(8))
        np.testing.assert_array_equal(added, np.arange(8) + n)


def check_order() -> None:
    """Results that are looked at in another order than they were made in, or not at all."""
    first, second = add(one, 10), add(one, 20)
    second.block_until_ready()
    first.block_until_ready()
    assert (int(first), int(second)) == (11, 21)
    large = add(wide, 1)
    large.block_until_ready()
    assert np.asarray(large)[4999] == 1
    for _ in range(200):
        add(one, 1)
        assert int(add(one, 2)) == 3
        assert int(add(one, 2)) == 3


def check_nothing_is_kept() -> None:
    before = len(jax.live_arrays())
    for argument in (one, wide):
        made = [weakref.ref(add(argument, n).block_until_ready()) for n in range(10)]
        assert not any(array() for array in made)
    assert len(jax.live_arrays()) == before


def check_failures() -> None:
    deleted = add(one, 1)
    deleted.delete()
    assert "deleted" in error_of(deleted.block_until_ready)
    assert "deleted" in error_of(lambda: int(deleted))
    assert "deleted" in error_of(lambda: add(deleted, 1))

    def fail(_: Any) -> Any:
        raise ValueError("what went wrong")

    failing = jax.jit(lambda x: jax.pure_callback(fail, jax.ShapeDtypeStruct((), np.int32), x))
    assert "what went wrong" in error_of(lambda: failing(one).block_until_ready())
    assert "what went wrong" in error_of(lambda: int(failing(one)))
    assert int(add(one, 1)) == 2


def check_long_waits() -> None:
    held = threading.Event()

    def stay(x: Any) -> Any:
        held.wait()
        return x

    staying = jax.jit(lambda x: jax.pure_callback(stay, jax.ShapeDtypeStruct((), np.int32), x) + 1)
    for look in (lambda a: a.block_until_ready(), int):
        held.clear()
        y = staying(one)
        assert not y.is_ready()
        threading.Timer(0, held.set).start()
        look(y)
        assert held.is_set()
        assert int(y) == 2


def check_debug_nans() -> None:
    """JAX's own look at each result stays."""
    log, minus = jax.jit(jnp.log), jnp.float32(-1)
    log(minus).block_until_ready()
    with jax.debug_nans(True):
        assert "nan" in error_of(lambda: log(minus), FloatingPointError)
    log(minus).block_until_ready()


check_results()
check_order()
check_nothing_is_kept()
check_failures()
check_long_waits()
check_debug_nans()
print("done")
