"""Tells a client that shares memory with us why its session ended.

jaxlib gives its user no reason. A client of our package has a pipe in its folder and prints the
sentence that comes through it; others have none. Never blocks, and fails for nobody: who does
not listen any more hears nothing.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

PIPE: Final = "farewell"


class Farewell:
    """The way to the client whose folder is `folder`."""

    def __init__(self, folder: Path | None) -> None:
        self._pipe: int | None = None
        if folder is not None:
            with contextlib.suppress(OSError):  # No such pipe, or nobody at its other end.
                self._pipe = os.open(folder / PIPE, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)

    def say(self, reason: str = "") -> None:
        """The session ends."""
        if self._pipe is None:
            return
        with contextlib.suppress(OSError):
            os.write(self._pipe, reason.encode())
        os.close(self._pipe)
        self._pipe = None
