"""Files of ours: folders that only this user may enter, and what to say where a file cannot be used."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Final

from polypath.errors import ClusterError

RUNTIME_DIR: Final = "POLYPATH_RUNTIME_DIR"
"""The variable that names the folder of a user's clusters."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_TOO_MANY: Final = (errno.EMFILE, errno.ENFILE)


def sentence(error: OSError, path: str | Path = "", variable: str = RUNTIME_DIR) -> str:
    """What went wrong with a file, `path` where the error does not tell, and what to do.

    `variable` is the one that names the folder it is in; empty for shared memory, whose place nobody chooses.
    """
    if not variable:
        advice = "remove files there, or enlarge it: mount -o remount,size=8G /dev/shm (docker run --shm-size=8g)"
    elif error.errno in _FULL:
        advice = f"free some space there, or name a folder on another disk in {variable}"
    elif error.errno in _TOO_MANY:
        advice = "allow more open files (`ulimit -n`), or end programs that have many"
    else:
        advice = f"let this user write there, or name another folder in {variable}"
    # Of two names, the second is the one that was to be made.
    name = os.fsdecode(error.filename2 or error.filename or path or "A file")
    return f"{name} cannot be used ({error.strerror or error}): {advice}."


@contextlib.contextmanager
def explained(path: str | Path = "", variable: str = RUNTIME_DIR) -> Generator[None]:
    """Turn what goes wrong with files into a sentence; also a decorator.

    Raises:
        ClusterError: for an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise ClusterError(sentence(error, path, variable)) from error


def private_dir(path: Path, variable: str = RUNTIME_DIR) -> Path:
    """Make `path` for this user alone, or check that it is so.

    Raises:
        ClusterError: it is not a folder, or others own it, may enter it or may replace it, or it cannot be made.
    """
    with explained(path, variable):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ClusterError(f"{path} is in the way: it is not a folder; remove it.") from None
        found, modes = path.lstat(), {parent: parent.stat().st_mode for parent in path.parents}
    if not stat.S_ISDIR(found.st_mode):
        raise ClusterError(f"{path} is in the way: it is not a folder; remove it.")
    if found.st_uid != os.getuid():
        raise ClusterError(
            f"{path} belongs to another user (uid {found.st_uid}), who could read what is put there: name a folder "
            f"that only you can write to, with `export {variable}=~/.polypath` for instance."
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ClusterError(f"Other users may enter {path}: close it with `chmod 700 {path}`.")
    for parent, mode in modes.items():
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise ClusterError(
                f"Other users may put another folder in place of {path}, as they may write to {parent}: close that "
                f"with `chmod o-w {parent}`, or name another folder in {variable}."
            )
    return path
