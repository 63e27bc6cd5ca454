"""Dies while an array is on its way: `dying_client.py send|receive`. Says "now" just before."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import jax
import numpy as np

from polypath.link import elements


def die(*_: Any) -> None:
    print("now", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


np.asarray(jax.device_put(np.ones(1 << 20)))  # The links are there.
setattr(elements, sys.argv[1], die)
np.asarray(jax.device_put(np.ones(16 << 20)))
