"""Starting programs: on a thread where a lost host could block, and on CPU never too many at a time.

Owns two threads and no arrays. XLA's pool of threads for CPU collectives deadlocks when too many
executions are in flight. Starting one more blocks once an earlier one hangs on a lost host: on CPU if it
spans hosts itself, on accelerators once their queue is full.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from polypath.worker.failures import WorkerFailure
from polypath.worker.waits import Waits

_log = logging.getLogger(__name__)

IN_FLIGHT: Final = 24
"""Executions over several CPU devices that may be unfinished; XLA's pool deadlocks from 32 on."""
BATCH: Final = 8


class Launcher:
    """Starts programs on a thread, where even starting may wait for another host."""

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], list[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="launch", daemon=True).start()

    def run(self, job: Callable[[], Any]) -> Any:
        """What `job` gives; waits for it unless the waits are cancelled, and then it may not begin."""
        outcome: list[Any] = []
        self._jobs.put((job, outcome))
        try:
            self._waits.wait(lambda: bool(outcome))
        except WorkerFailure:
            outcome.append(None)
            raise
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    def _work(self) -> None:
        while True:
            job, outcome = self._jobs.get()
            if outcome:
                continue  # given up
            try:
                result = job()
            except Exception as error:
                result = error
            outcome.append(result)
            self._waits.notify()


class Flights:
    """How many executions over several devices are unfinished.

    A thread follows their ends, a batch at a time: following each would cost more than
    many a program.
    """

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._launched = 0
        self._finished = 0
        self._batch: list[Any] = []
        self._batches: deque[list[Any]] = deque()
        self._work = threading.Semaphore(0)
        threading.Thread(target=self._follow, name="flights", daemon=True).start()

    def wait_for_room(self) -> None:
        if self._launched - self._finished >= IN_FLIGHT:
            self._waits.wait(lambda: self._launched - self._finished < IN_FLIGHT)

    def started(self, token: Any) -> None:
        self._launched += 1
        self._batch.append(token)
        if len(self._batch) == BATCH:
            self._batches.append(self._batch)
            self._batch = []
            self._work.release()

    def _follow(self) -> None:
        while True:
            self._work.acquire()
            batch = self._batches.popleft()
            for token in batch:
                try:
                    token.block_until_ready()
                except Exception as error:
                    # It reaches whoever looks at the results; here only the end counts.
                    _log.debug("An execution failed: %s", error)
            self._finished += len(batch)
            self._waits.notify()
