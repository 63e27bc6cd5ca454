"""The link breaks in the middle of an array, down and up: the array is right all the same, and links are made again."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import requests_made
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from polypath.client import backend
from polypath.link import elements

a = np.random.default_rng(0).random((4, 4 << 20), np.float32)
over_hosts = NamedSharding(jax.make_mesh((4,), ("x",)), P("x"))
add = jax.jit(lambda x: x + 1)


def check_works() -> None:
    x = jax.device_put(a, over_hosts)
    np.testing.assert_array_equal(np.asarray(add(x).block_until_ready()), a + 1)
    np.testing.assert_array_equal(np.asarray(x), a)


def break_in(step: str) -> None:
    """Shut the links to all workers down, once, in the middle of `elements.send` or `elements.receive`."""
    original = getattr(elements, step)

    def breaking(*args: Any) -> None:
        setattr(elements, step, original)
        session = backend._Proxy.session
        assert session is not None
        assert session.transfers is not None
        for link in session.transfers.links._links.values():
            assert link.connection is not None
            link.connection._stream.shutdown()
        original(*args)

    setattr(elements, step, breaking)


check_works()
assert all(requests_made.puts + requests_made.reads + requests_made.answers)
for step, recorded in (("send", requests_made.puts), ("receive", requests_made.reads)):
    recorded.clear()
    break_in(step)
    check_works()
    assert recorded[0] is False, (step, recorded)
    while not recorded[-1]:
        check_works()
print("done")
