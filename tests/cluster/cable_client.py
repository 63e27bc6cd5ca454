"""The cable of host 1 is pulled while this process waits for it, reads from it or sends to it.

`cable_client.py wait|read|put`. Says "waiting" when the cable is to be pulled, reads a line once it is, says why there
is no link to the host any more, and at the end "right" or the error.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

import jax
import numpy as np

from polypath.link import elements

HOW = sys.argv[1]
SIZE = 64 << 20
"""Bytes: more than sockets hold."""
PATIENCE = 60

ended = threading.Event()


class Said(logging.Handler):
    """Prints what is logged, and notes that the link has ended."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)
        ended.set()


def wait_for_cable() -> None:
    print("waiting", flush=True)
    input()


def waited_in(step: str) -> None:
    """Have the cable pulled as an array is about to go through `elements.send` or `elements.receive`."""
    original = getattr(elements, step)

    def waiting(*args: Any) -> None:
        setattr(elements, step, original)
        wait_for_cable()
        original(*args)

    setattr(elements, step, waiting)


def called(x: Any) -> Any:
    """Returns when the link has ended, so that who waits for what comes of this waits until then."""
    wait_for_cable()
    assert ended.wait(PATIENCE), "the link does not end"
    return np.asarray(x)


device = jax.devices()[1]
a = np.arange(SIZE // 4, dtype=np.float32)
add = jax.jit(lambda x: x + 1)
ask = jax.jit(lambda x: jax.pure_callback(called, jax.ShapeDtypeStruct((), np.float32), x))
there = jax.device_put(a, device)
later = add(there).block_until_ready()
small = add(jax.device_put(np.float32(41), device))
assert float(small) == 42

log = logging.getLogger("polypath.link.client")
log.setLevel(logging.INFO)
log.addHandler(Said())
try:
    if HOW == "wait":
        assert float(ask(small)) == 42
    elif HOW == "read":
        waited_in("receive")
        np.testing.assert_array_equal(np.asarray(later), a + 1)
    else:
        waited_in("send")
        np.testing.assert_array_equal(np.asarray(jax.device_put(a + 1, device)), a + 1)
except jax.errors.JaxRuntimeError as error:
    print(error, flush=True)
else:
    assert ended.is_set()
    print("right", flush=True)
