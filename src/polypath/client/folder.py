"""The folder in the cluster's shared memory through which this process sends big arrays.

One folder per session, made here, removed by the frontend when the session ends. jaxlib keeps
the path that it is given for the life of the process, whichever clusters that connects to; so
it is given the path of an open descriptor, which is moved to each session's folder in turn.

A pipe in the folder brings the frontend's word on why the session ended: jaxlib itself drops the
connection when a big array does not fit into shared memory, and tells the user only that.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from polypath.client.environment import PIPE_NAME, SHARED_MEMORY
from polypath.files import explained

_ENOUGH: Final = 64 * 2**20
"""Bytes free below which shared memory is left alone."""

_descriptor: int | None = None


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


def shares_memory(folder: Path) -> bool:
    """Whether arrays shall go through the folder: not where it is nearly full, or the user set the variable."""
    return os.environ.get(SHARED_MEMORY) != "0" and shutil.disk_usage(folder).free >= _ENOUGH


def open_pipe(folder: Path) -> int:
    """The end of the folder's pipe that is ours to read, and to close."""
    return os.open(folder / PIPE_NAME, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def lasting_path(folder: Path) -> str:
    """A path of `folder` that is the same at each call in this process, and names the last one given."""
    global _descriptor
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if _descriptor is None:
        _descriptor = opened
    else:
        os.dup2(opened, _descriptor, inheritable=False)
        os.close(opened)
    return f"/proc/self/fd/{_descriptor}"
