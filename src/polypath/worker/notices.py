"""What this worker tells clients itself: their pipes, opened with the first notice."""

from __future__ import annotations

import contextlib
import logging
import threading

from polypath.messages import MOST_ELEMENTS, Notify
from polypath.notices import Writer
from polypath.types import ExecutableId, Failure

_log = logging.getLogger(__name__)


class Notices:
    """The pipes of the clients that ask, by the program that they ask with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipes: dict[ExecutableId, Writer] = {}

    def open(self, question: Notify) -> None:
        """Keep the pipe for it and those that follow, until `close`."""
        with self._lock:
            if question.executable not in self._pipes:
                try:
                    self._pipes[question.executable] = Writer(question.address)
                except OSError as error:
                    _log.debug("A client that asks is gone: %s", error)

    def close(self, executable: ExecutableId) -> None:
        """The client that had this program asks nothing more."""
        with self._lock:
            pipe = self._pipes.pop(executable, None)
            if pipe is not None:
                pipe.close()

    def tell(self, question: Notify, outcome: bytes | Failure) -> None:
        """Answer a question, from any thread; a client that is gone hears nothing."""
        try:
            with self._lock:
                if (pipe := self._pipes.get(question.executable)) is not None:
                    _tell(pipe, question, outcome)
                    return
            # It asked, and dropped the program before this was there.
            with contextlib.closing(Writer(question.address)) as pipe:
                _tell(pipe, question, outcome)
        except OSError as error:
            _log.debug("A client hears nothing of %d: %s", question.number, error)


def _tell(pipe: Writer, question: Notify, outcome: bytes | Failure) -> None:
    if isinstance(outcome, Failure) or len(outcome) > MOST_ELEMENTS:
        pipe.tell(question.number, answered=False)
    else:
        pipe.tell(question.number, question.of, outcome)
