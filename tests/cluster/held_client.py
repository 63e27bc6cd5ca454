"""Waits for what a function of this process holds back: `held_client.py block|float [release]`.

Says "waiting" from inside the function, then what the wait raised, and "done". With `release` the function goes on
then, and its result is looked at.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import jax
import numpy as np

HOW, *RELEASE = sys.argv[1:]
held = threading.Event()


def stay(x: Any) -> Any:
    print("waiting", flush=True)
    held.wait()
    return x


x = jax.jit(lambda x: jax.pure_callback(stay, jax.ShapeDtypeStruct((), np.float32), x) + 1)(1.0)
try:
    x.block_until_ready() if HOW == "block" else float(x)
except BaseException as error:
    print(type(error).__name__, str(error).replace("\n", " "), flush=True)
held.set()
if RELEASE:
    assert float(x + 1) == 3
print("done", flush=True)
