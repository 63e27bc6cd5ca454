"""Uploads wait while shared memory has no room for more.

jaxlib's proxy client writes each big array to a file of shared memory, on a thread of its own, and ends the
session where one does not fit. So a put waits here until the workers have taken what was put before, and where
even then there is no room it is refused in one sentence, and the session goes on.
"""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np
from jax._src import lib

from polypath.client.environment import THRESHOLD_BYTES
from polypath.client.hooks.cluster import host_arrays, is_cluster, replace

_jax: Any = jax
_lib: Any = lib

MOST: Final = 1 << 30
"""Bytes that may be on their way to the workers."""

_pace: _Pace | None = None


def install(folder: Path | None) -> None:
    """Put the hook in place; `folder` is the session's, None if arrays do not go through it."""
    global _pace
    _pace = None if folder is None else _Pace(folder)
    replace(_lib.xla_client, "batched_device_put", _put)


def _put(original: Any) -> Any:
    def put(aval: Any, sharding: Any, xs: Any, devices: Any, *rest: Any, **more: Any) -> Any:
        if _pace is not None and devices and is_cluster(devices[0].client):
            # Each is written for itself, also where several are one array.
            sizes = (math.prod(x.shape) * x.dtype.itemsize for x in xs if isinstance(x, host_arrays))
            size = sum(size for size in sizes if size >= THRESHOLD_BYTES)
            if size:
                _pace.wait(size, devices)
        return original(aval, sharding, xs, devices, *rest, **more)

    return put


class _Pace:
    """What one session has put and workers may not have taken."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._sent = 0
        self._devices: set[Any] = set()

    def wait(self, size: int, devices: Iterable[Any]) -> None:
        """Return when there is room for `size` bytes, which then are on their way.

        Raises:
            JaxRuntimeError: there will be none.
        """
        with self._lock:
            if self._sent + size > min(MOST, shutil.disk_usage(self._folder).free // 2):
                self._settle()
                free = shutil.disk_usage(self._folder).free
                if size > free:
                    raise _jax.errors.JaxRuntimeError(
                        f"RESOURCE_EXHAUSTED: An array of {size} bytes has no room in shared memory in "
                        f"{self._folder.parent}, which has {free} bytes free: free some there, or put it in parts."
                    )
            self._sent += size
            self._devices.update(devices)

    def _settle(self) -> None:
        """Wait until workers have taken all: what is put later is there later."""
        marks = [_jax.device_put(np.zeros((), np.int8), device) for device in self._devices]
        _jax.block_until_ready(marks)
        self._sent = 0
        self._devices.clear()
