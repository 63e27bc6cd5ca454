"""Forks a child, and prints the pids of the head and of the child; both wait for their standard input to end."""

from __future__ import annotations

import os
import sys
import warnings

import jax

import polypath

warnings.filterwarnings("ignore", ".*fork", RuntimeWarning)
warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)

with polypath.start(hosts=1, devices_per_host=1, platform="cpu") as cluster:
    jax.devices()
    child = os.fork()
    if child == 0:
        sys.stdin.read()
        os._exit(0)
    assert cluster._head is not None
    print(cluster._head.pid, child, flush=True)
    sys.stdin.read()
