"""A client whose two workers, each an island, are on other machines: `networks_client.py near|tunnel`.

The argument says how its links to them go: straight, over TLS, or through the head, where there is no route.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import requests_made

from polypath.client import backend
from polypath.link.state import State
from polypath.link.streams import Stream, TlsStream

IS_NEAR = sys.argv[1] == "near"
BIG = 3 << 20
"""Elements: more than sockets hold."""

random = np.random.default_rng(0)
first, second = jax.devices()


def check_arrays() -> None:
    for device in (first, second):
        x = jax.device_put(np.float32(3), device)
        assert float(x + 1) == 4
        small, big = np.arange(100, dtype=np.float32), random.random(BIG, np.float32)
        np.testing.assert_array_equal(np.asarray(jax.device_put(small, device) * 2), small * 2)
        there = jax.device_put(big, device).block_until_ready()
        np.testing.assert_array_equal(np.asarray(there), big)
        np.testing.assert_array_equal(np.asarray((there * 2).block_until_ready()), big * 2)


def check_copies() -> None:
    big = random.random(BIG, np.float32)
    x = jax.device_put(jax.device_put(big, first) * 2, second)
    assert x.device == second
    np.testing.assert_array_equal(np.asarray(x), big * 2)
    assert float(jax.device_put(x[7], first)) == big[7] * 2


def check_callbacks() -> None:
    @jax.jit
    def asks(x: jax.Array) -> jax.Array:
        jax.debug.print("{} was seen", x.sum())
        return jax.pure_callback(lambda a: np.asarray(a) * 10, jax.ShapeDtypeStruct(x.shape, x.dtype), x) + 1

    for device in (first, second):
        found = np.asarray(asks(jax.device_put(np.arange(5, dtype=np.float32), device)))
        np.testing.assert_array_equal(found, np.arange(5) * 10 + 1)
    jax.effects_barrier()


def check_training() -> None:
    """Gradient descent finds the line that the points are on."""

    @jax.jit
    def step(w: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        loss, gradient = jax.value_and_grad(lambda w: jnp.mean((x @ w - y) ** 2))(w)
        return w - 0.2 * gradient, loss

    for device in (first, second):
        x = random.standard_normal((512, 4), np.float32)
        y = x @ np.array([1, -2, 3, 0.5], np.float32)
        with jax.default_device(device):
            w = jnp.zeros(4)
            losses = []
            for _ in range(30):
                w, loss = step(w, x, y)
                losses.append(float(loss))
        assert losses[-1] < 1e-3 < losses[0], losses
        np.testing.assert_allclose(np.asarray(w), [1, -2, 3, 0.5], atol=0.05)


def check_links() -> None:
    """All went over links, and these over the network."""
    for what in (requests_made.answers, requests_made.reads, requests_made.puts):
        assert what
        assert all(what), what
    session = backend._Proxy.session
    assert session is not None
    assert session.transfers is not None
    links = session.transfers.links
    for host in (0, 1):
        address = links._hosts[host].address
        assert address.startswith("tcp://10."), address
        link = links._links[host]
        assert link.state.state is State.OPEN
        assert link.is_near is IS_NEAR
        assert link.connection is not None
        stream = link.connection._stream
        assert type(stream) is (TlsStream if IS_NEAR else Stream)
        peer = stream._socket.getpeername()
        assert peer == session.target.rpartition(":")[2].replace("ifrt.sock", "link") or (
            IS_NEAR and "tcp://{}:{}".format(*peer) == address
        ), peer


check_arrays()
check_copies()
check_training()
check_links()  # Before functions of this process get arrays that are not the cluster's, about which nobody is asked.
check_callbacks()
print("done")
