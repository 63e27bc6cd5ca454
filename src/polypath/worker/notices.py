"""What this worker tells clients itself: their pipes, opened with the first notice."""

from __future__ import annotations

import logging
import threading

from polypath.messages import Notify
from polypath.notices import MOST_ELEMENTS, Writer
from polypath.types import ExecutableId, Failure

_log = logging.getLogger(__name__)


class Notices:
    """The pipes of the clients that ask. Any thread may tell."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipes: dict[ExecutableId, Writer] = {}

    def tell(self, question: Notify, outcome: bytes | Failure) -> None:
        """Answer a question; a client that is gone hears nothing."""
        pipe = self._pipes.get(question.executable)
        try:
            if pipe is None:
                pipe = self._open(question)
            if isinstance(outcome, Failure) or len(outcome) > MOST_ELEMENTS:
                pipe.tell(question.number, answered=False)
            else:
                pipe.tell(question.number, question.of, outcome)
        except OSError as error:
            _log.debug("A client hears nothing of %d: %s", question.number, error)

    def close(self, executable: ExecutableId) -> None:
        """The client that had this program asks nothing more."""
        with self._lock:
            pipe = self._pipes.pop(executable, None)
        if pipe is not None:
            pipe.close()

    def _open(self, question: Notify) -> Writer:
        with self._lock:
            if question.executable not in self._pipes:
                self._pipes[question.executable] = Writer(question.address)
            return self._pipes[question.executable]
