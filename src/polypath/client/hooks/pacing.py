"""Uploads wait while shared memory has no room for more.

jaxlib's proxy client writes each big array to a file of shared memory, on a thread of its own, and ends the
session where one does not fit. So a put waits here until the workers have taken what was put before, and where
even then there is no room it is refused in one sentence, and the session goes on.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np

from polypath.client.environment import THRESHOLD_BYTES

_jax: Any = jax

MOST: Final = 1 << 30
"""Bytes that may be on their way to the workers."""


class Pace:
    """What one session has put and workers may not have taken."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._sent = 0
        self._devices: set[Any] = set()

    def wait(self, sizes: Iterable[int], devices: Iterable[Any]) -> None:
        """Return when there is room for arrays of these many bytes, which then are on their way.

        Each is written for itself, also where several are one array.

        Raises:
            JaxRuntimeError: there will be none.
        """
        size = sum(each for each in sizes if each >= THRESHOLD_BYTES)
        if not size:
            return
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
