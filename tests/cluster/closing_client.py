"""Leaves a cluster while programs call functions of this process still: `closing_client.py NAME`."""

from __future__ import annotations

import sys
import threading

import jax
import numpy as np

import polypath

SCALAR = jax.ShapeDtypeStruct((), np.float32)
leaving = threading.Event()


def late(x: np.ndarray) -> None:
    """Ends only once the cluster is being left."""
    leaving.wait()
    print("late", float(x), flush=True)


def fail(_: np.ndarray) -> np.ndarray:
    raise ValueError("mine")


with polypath.connect(sys.argv[1]):
    call = jax.jit(lambda x: jax.debug.callback(late, x))
    call(1.0)
    call(2.0)
    leaving.set()
print("left", flush=True)

with polypath.connect(sys.argv[1]):
    nobody_looks = jax.jit(lambda x: jax.pure_callback(fail, SCALAR, x))(1.0)
print("left", flush=True)
