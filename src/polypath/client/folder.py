"""The folder in the cluster's shared memory that holds this session's sockets and pipes.

One folder per session, made here, removed by the frontend when the session ends. A pipe in it brings the frontend's
word on why the session ended.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from polypath.client.environment import PIPE_NAME
from polypath.files import explained


def make_folder(shared_dir: Path) -> Path | None:
    """A new folder for a session; None where there is no place for it.

    Raises:
        ClusterError: it cannot be made.
    """
    if not shared_dir.is_dir():
        return None
    folder = shared_dir / f"client-{os.getpid()}-{secrets.token_hex(4)}"
    with explained(folder, ""):
        folder.mkdir(mode=0o700)
        os.mkfifo(folder / PIPE_NAME, 0o600)
    return folder


def open_pipe(folder: Path) -> int:
    """The end of the folder's pipe that is ours to read, and to close."""
    return os.open(folder / PIPE_NAME, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
