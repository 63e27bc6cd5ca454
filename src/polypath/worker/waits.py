"""The only places where the apply loop may wait, and how such a wait is ended.

A wait is for a condition that another thread brings about. `cancel` ends every wait, now and
later, so that a worker whose peers are gone can still be told to leave. The apply loop itself
watches the transport while it waits, and cancels when it is told to leave.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from polypath.types import Code, Failure
from polypath.worker.failures import FailedValue, WorkerFailure


class Waits:
    """A condition that all waits share."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._cancelled: str | None = None
        self._watch: Callable[[int], bool] | None = None
        self._watcher: int | None = None
        self._watching = False
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def watch_with(self, watch: Callable[[int], bool]) -> None:
        """Let this thread wait by `watch(descriptor)`: True once that is readable, False to leave."""
        self._watch, self._watcher = watch, threading.get_ident()

    def wait(self, done: Callable[[], bool]) -> None:
        """Return once `done()`.

        Raises:
            WorkerFailure: the waits were cancelled before that.
        """
        if done():
            return
        if self._watch is not None and threading.get_ident() == self._watcher:
            self._wait_watching(self._watch, done)
        else:
            with self._condition:
                self._condition.wait_for(lambda: self._cancelled is not None or done())
        if not done():
            raise WorkerFailure(Code.ABORTED, str(self._cancelled))

    def _wait_watching(self, watch: Callable[[int], bool], done: Callable[[], bool]) -> None:
        self._watching = True  # Before `done` is looked at, or a notice could be missed.
        try:
            while self._cancelled is None and not done():
                if watch(self._event):
                    os.eventfd_read(self._event)
                else:
                    self.cancel("The worker was told to leave before this was done; do it again.")
        finally:
            self._watching = False

    def wait_at_most(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Whether `done()` came true in time."""
        with self._condition:
            self._condition.wait_for(done, seconds)
        return done()

    def notify(self) -> None:
        """Look again: something changed."""
        with self._condition:
            self._condition.notify_all()
        if self._watching:
            os.eventfd_write(self._event, 1)

    def cancel(self, reason: str) -> None:
        """End every wait; those to come end at once unless they have nothing to wait for."""
        with self._condition:
            self._cancelled = reason
            self._condition.notify_all()
        if self._watching:
            os.eventfd_write(self._event, 1)


class Countdown:
    """Calls `then` once `count` things have come, on the thread of the last; at once where there are none."""

    def __init__(self, count: int, then: Callable[[], None]) -> None:
        self._left = count
        self._then = then
        self._lock = threading.Lock()
        if not count:
            then()

    def one_came(self) -> None:
        """From any thread."""
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            self._then()


class Pending:
    """A shard that is on its way: from another worker, or put together beside the log."""

    __slots__ = ("_result", "_waits")

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._result: Any = None

    def resolve(self, result: object) -> None:
        """Here it is: a shard or a `Failure`."""
        self._result = result
        self._waits.notify()

    @property
    def done(self) -> bool:
        return self._result is not None

    @property
    def result(self) -> Any:
        """What it was resolved to, a shard (which may still be computed) or a `Failure`; None before."""
        return self._result

    def wait(self) -> Any:
        """The shard.

        Raises:
            WorkerFailure: it failed, or the waits were cancelled.
        """
        self._waits.wait(lambda: self._result is not None)
        if isinstance(self._result, Failure):
            raise FailedValue(self._result)
        return self._result
