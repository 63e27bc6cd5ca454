"""A worker is stopped while this process waits for it, reads from it or sends to it.

`stopped_worker_client.py wait|read|put PID`, of the last device's worker. Says why it has no link to it any more, and
at the end "right" or the error.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

import jax
import numpy as np

HOW, PID = sys.argv[1], int(sys.argv[2])
SIZE = 64 << 20
"""Bytes: more than sockets hold."""


class Said(logging.Handler):
    """Prints what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)


device = jax.devices()[-1]
a = np.arange(SIZE // 4, dtype=np.float32)
add = jax.jit(lambda x: x + 1)
there = jax.device_put(a, device)
later = add(there).block_until_ready()
np.asarray(add(later))  # The link is there.

log = logging.getLogger("polypath.link.client")
log.setLevel(logging.INFO)
log.addHandler(Said())
os.kill(PID, signal.SIGSTOP)
try:
    if HOW == "wait":
        found = np.asarray(add(there).block_until_ready())
    elif HOW == "read":
        found = np.asarray(later)
    else:
        found = np.asarray(jax.device_put(a + 1, device))
except jax.errors.JaxRuntimeError as error:
    print(error, flush=True)
else:
    np.testing.assert_array_equal(found, a + 1)
    print("right", flush=True)
