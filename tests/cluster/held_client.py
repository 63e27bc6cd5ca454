"""Waits for what a function of this process holds back: `held_client.py block|float|array [release]`.

Says "waiting" from inside the function, then what the wait raised, and "done". With `release` the function goes on
then, and its result is looked at.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

HOW, *RELEASE = sys.argv[1:]
held = threading.Event()


def stay(x: Any) -> Any:
    print("waiting", flush=True)
    held.wait()
    return x


number = jax.ShapeDtypeStruct((), np.float32)
x, big = jax.jit(lambda x: (y := jax.pure_callback(stay, number, x) + 1, y + jnp.zeros(100_000)))(1.0)
looks = {"block": x.block_until_ready, "float": lambda: float(x), "array": lambda: np.asarray(big)}
try:
    looks[HOW]()
except BaseException as error:
    print(type(error).__name__, str(error).replace("\n", " "), flush=True)
held.set()
if RELEASE:
    assert float(x + 1) == 3
    assert np.asarray(big)[-1] == 2
print("done", flush=True)
