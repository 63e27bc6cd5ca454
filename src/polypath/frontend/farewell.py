"""Tells a client that shares memory with us why its session ended.

jaxlib gives its user no reason. A client of our package has a pipe in its folder and prints the
sentence that comes through it; others have none. Never blocks, and fails for nobody: who does
not listen any more hears nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

PIPE: Final = "farewell"

_THRESHOLD: Final = "IFRT_PROXY_GRPC_LARGE_TRANSFER_OPTIMIZATION_THRESHOLD_BYTES"


class Farewell:
    """The way to the client whose folder is `folder`."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._pipe: int | None = None
        if folder is not None:
            with contextlib.suppress(OSError):  # No such pipe, or nobody at its other end.
                self._pipe = os.open(folder / PIPE, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)

    def say(self, reason: str = "") -> None:
        """The session ends; with no `reason`, what is left in the folder may be one."""
        if self._pipe is None:
            return
        with contextlib.suppress(OSError):
            os.write(self._pipe, (reason or self._find_unfinished()).encode())
        os.close(self._pipe)
        self._pipe = None

    def _find_unfinished(self) -> str:
        """The client drops the connection where it cannot write a big array, and leaves what it has."""
        assert self._folder is not None, "a pipe is in a folder"
        for file in self._folder.glob("lt_*"):
            return (
                f"an array got no further than {file.stat().st_size} bytes into shared memory in "
                f"{self._folder.parent}, which has {shutil.disk_usage(self._folder).free} bytes free: free some "
                f"there, or set {_THRESHOLD} to a higher number to send arrays below it over gRPC."
            )
        return ""
