"""Compiled programs on disk, shared by all workers of a machine and kept across runs.

Of workers that want the same program at once, one compiles it and the others wait and load it.

An entry is one file, written beside its place and moved into it, so that nobody reads half of
one. What cannot be read is compiled anew. It holds the executable as XLA serializes it, which
was found to load again on CPU alone and in groups, in well under a tenth of the time.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import logging
import os
import platform
import re
import tempfile
from collections.abc import Generator
from pathlib import Path

import msgspec

from polypath.errors import ClusterError
from polypath.files import private_dir

_log = logging.getLogger(__name__)
_MAGIC = b"polypath1"


@functools.cache
def cpu_features() -> str:
    """What programs compiled on this machine may use: a home may be shared with machines that have less."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


class Cache:
    """A folder of entries by key; without a folder, always empty."""

    def __init__(self, folder: str) -> None:
        self._folder: Path | None = None
        if folder:
            try:
                # Who can write here can have workers load programs of his own.
                self._folder = private_dir(Path(folder), "XDG_CACHE_HOME")
            except ClusterError as error:
                _log.warning("No compiled program is kept: %s", error)

    @staticmethod
    def key(*parts: object) -> str:
        """A key of everything that the compiled program depends on."""
        return hashlib.sha256(msgspec.msgpack.encode([*parts])).hexdigest()

    @contextlib.contextmanager
    def alone(self, key: str) -> Generator[None]:
        """While one is in here with a key, others on this machine wait. A process that ends lets the next one in."""
        lock = None
        if self._folder is not None:
            try:
                folder = self._folder / "locks"
                folder.mkdir(exist_ok=True, mode=0o700)
                # (A file for each key would have to be removed, which cannot be done safely.)
                lock = os.open(folder / key[:2], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                _log.warning("The compile cache cannot be locked (%s), so workers may compile the same twice.", error)
        try:
            yield
        finally:
            if lock is not None:
                os.close(lock)

    def load(self, key: str) -> bytes | None:
        """The entry, or None if there is none that is whole."""
        if self._folder is None:
            return None
        path = self._folder / key
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("The compile cache cannot be read (%s), so the program is compiled anew.", error)
            return None
        head, body = data[: len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
        if head != _MAGIC + hashlib.sha256(body).digest():
            _log.warning("The compile cache's entry %s is damaged, so the program is compiled anew.", path)
            return None
        return body

    def save(self, key: str, body: bytes) -> None:
        """Keep an entry. A full disk or the like is logged, not raised: it is only a cache."""
        if self._folder is None:
            return
        temporary = ""
        try:
            handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=".new-")
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(body).digest() + body)
            Path(temporary).replace(self._folder / key)
        except OSError as error:
            _log.warning("The compile cache cannot keep a program (%s); it will be compiled again.", error)
            if temporary:
                Path(temporary).unlink(missing_ok=True)
