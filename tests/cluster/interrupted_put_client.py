"""Ctrl-C while an array goes up to a worker that does not read: `interrupted_put_client.py PID`, of the last device's.

Says "sending" once it is on its way, "interrupted", and "done" when all works again.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import jax
import numpy as np
import requests_made

from polypath.link import elements

SIZE = 64 << 20
"""Bytes: more than sockets hold."""

send, pid = elements.send, int(sys.argv[1])


def tell(*args: Any) -> None:
    print("sending", flush=True)
    send(*args)


a = np.arange(SIZE // 4, dtype=np.float32)
device = jax.devices()[-1]
np.asarray(jax.device_put(a, device))  # The link is there.
elements.send = tell
os.kill(pid, signal.SIGSTOP)
try:
    jax.device_put(a, device)
except KeyboardInterrupt:
    print("interrupted", flush=True)
finally:
    os.kill(pid, signal.SIGCONT)
elements.send = send
requests_made.puts.clear()
while not any(requests_made.puts):
    np.testing.assert_array_equal(np.asarray(jax.device_put(a, device)), a)
print("done", flush=True)
