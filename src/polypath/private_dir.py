"""Folders that only this user may enter, also where anyone may make folders (`/tmp`, `/dev/shm`)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from polypath.errors import ClusterError


def private_dir(path: Path) -> Path:
    """Make `path` for this user alone, or check that it is so.

    Raises:
        ClusterError: it is not a folder, or others own it or may enter it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ClusterError(f"{path} is in the way: it is not a folder; remove it.") from None
    except OSError as error:
        raise ClusterError(
            f"The folder {path} cannot be made ({error.strerror}): name another in POLYPATH_RUNTIME_DIR."
        ) from error
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ClusterError(f"{path} is in the way: it is not a folder; remove it.")
    if found.st_uid != os.getuid():
        raise ClusterError(
            f"{path} belongs to another user (uid {found.st_uid}), who could read what is put there: "
            "have it removed, or name another folder in POLYPATH_RUNTIME_DIR."
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ClusterError(f"Other users may enter {path}: close it with `chmod 700 {path}`.")
    return path
