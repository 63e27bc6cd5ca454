"""Tells the user, in one sentence, when the cluster they use is gone, or their session on it.

A thread waits for the head's process to end, and for what the frontend writes into the session's
pipe. jaxlib's own `on_disconnect` cannot be used: it calls into Python while the interpreter
shuts down, which aborts the process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from polypath.client.folder import open_pipe
from polypath.launch.runtime_dir import ClusterRecord

_LOOKS: Final = 200
_PATIENCE: Final = 5
"""Seconds for what the thread has still to tell."""
_EVERY: Final = 0.05
"""How often at most, and every how many seconds, a process that ends looks for the last word."""


class HeadWatch:
    """Waits for a head, and the session that has `folder`, to end; until `stop()`."""

    def __init__(
        self, record: ClusterRecord, folder: Path | None = None, ended: Callable[[], None] = lambda: None
    ) -> None:
        """`ended` is called, on a thread, when either does; not after `stop()`."""
        self.over = False
        """Either has ended."""
        self._record = record
        self._when_ended = ended
        self._folder = folder
        self._pipe = None if folder is None else open_pipe(folder)
        self._told = threading.Event()
        self._pidfd = os.pidfd_open(record.pid)
        self._stopped, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._wait, name="polypath-head-watch", daemon=True)
        self._thread.start()
        atexit.register(self._stop_at_exit)

    def stop(self) -> None:
        """The cluster's end is no news any more. May be called again."""
        if self._stop < 0:
            return
        atexit.unregister(self._stop_at_exit)
        os.write(self._stop, b"0")  # A process that was forked from this one may hold the pipe open.
        os.close(self._stop)
        self._stop = -1
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            return  # It tells somebody who does not read, and has the pipes still.
        os.close(self._stopped)
        os.close(self._pidfd)
        if self._pipe is not None:
            os.close(self._pipe)

    def abandon(self) -> None:
        """Let a forked child close its copies of the descriptors: the thread is the parent's."""
        if self._stop < 0:
            return
        atexit.unregister(self._stop_at_exit)
        for fd in (self._stop, self._stopped, self._pidfd, self._pipe):
            if fd is not None:
                os.close(fd)
        self._stop = -1

    def _stop_at_exit(self) -> None:
        """A script that just failed because its session ended shall still hear why."""
        for _ in range(_LOOKS):
            if not self._is_uploading() or self._told.wait(_EVERY):
                break
        self.stop()

    def _is_uploading(self) -> bool:
        """Whether a big array is on its way, or will never get there."""
        with contextlib.suppress(FileNotFoundError):  # The head removes the folder.
            return self._folder is not None and any(file.name.startswith("lt_") for file in self._folder.iterdir())
        return False

    def _wait(self) -> None:
        poll = select.poll()
        for fd in (self._pidfd, self._stopped, self._pipe):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        while True:
            ended = {fd for fd, _ in poll.poll()}
            if self._pipe is not None and self._pipe in ended:
                poll.unregister(self._pipe)
                self._end()
                self._tell_session_ended(os.read(self._pipe, select.PIPE_BUF).decode())
                self._told.set()
            if self._stopped in ended:
                return
            if self._pidfd in ended:
                self._end()
                self._tell_head_ended()
                self._told.set()
                return

    def _end(self) -> None:
        self.over = True
        self._when_ended()

    def _tell_session_ended(self, reason: str) -> None:
        if reason:  # Else the head went down, or is about to.
            _print(f"the session with the cluster {self._record.name!r} ended, and with it all its values: {reason}")

    def _tell_head_ended(self) -> None:
        record = self._record
        _print(
            f"the cluster {record.name!r} at {record.address} is gone, and with it all its values, because its head "
            f"(pid {record.pid}) ended: see `polypath status`, and start it again with `polypath up`."
        )


def _print(sentence: str) -> None:
    # On a line of its own, at once, also where another thread is in the middle of writing its exception.
    sys.stderr.write(f"\npolypath: {sentence}\n")
    sys.stderr.flush()
