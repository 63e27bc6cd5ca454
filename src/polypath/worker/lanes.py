"""Programs that run beside the log, one after another on the thread of their lane.

A lane takes what may wait for somebody outside the worker (a client's Python function, Python
beside the devices, storage), and what must not overtake it. The results are pending until then.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from polypath.types import ProgramKind
from polypath.worker.waits import Countdown

_log = logging.getLogger(__name__)

Job = Callable[[], None]
_STREAMS = 32
"""So many streams keep their threads while they have nothing to do."""


class Lane:
    """A thread and its queue."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._submitted = 0
        self._finished = 0
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether something that was submitted has not come to its end."""
        return self._finished < self._submitted

    def submit(self, job: Job) -> None:
        """Run `job` after all that was submitted before. It must not raise."""
        with self._lock:
            if not self._submitted:
                threading.Thread(target=self._work, name=f"lane-{self._name}", daemon=True).start()
            self._submitted += 1
            self._jobs.put(job)

    def close(self) -> None:
        """Let the thread end; nothing is submitted any more."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                _log.exception("A job of the lane %s failed.", self._name)
            del job  # Or it would keep its arrays until the next one.
            self._finished += 1


class Lanes:
    """One lane for each kind of program, and one for each stream of those that may run side by side."""

    __slots__ = ("_lanes", "_latest", "_streams")

    def __init__(self) -> None:
        self._lanes: dict[ProgramKind, Lane] = {}
        self._streams: dict[tuple[ProgramKind, int], Lane] = {}
        self._latest: Lane | None = None

    def __getitem__(self, kind: ProgramKind) -> Lane:
        lane = self._lanes.get(kind)
        if lane is None:
            lane = self._lanes[kind] = Lane(kind)
        return lane

    def stream(self, kind: ProgramKind, number: int) -> Lane:
        """The lane of a stream of programs of that kind: a client's thread has one."""
        lane = self._streams.get((kind, number))
        if lane is None:
            if len(self._streams) >= _STREAMS:
                self._end_idle()
            lane = self._streams[kind, number] = Lane(f"{kind}-stream")
        if kind == "python":
            self._latest = lane
        return lane

    def _end_idle(self) -> None:
        """Clients do not say when a thread of theirs is gone."""
        for key, lane in list(self._streams.items()):
            if not lane.busy and lane is not self._latest:
                del self._streams[key]
                lane.close()

    @property
    def busy(self) -> bool:
        """Whether any is."""
        # Most workers never need a lane, and each Execute asks.
        return bool(self._lanes or self._streams) and any(lane.busy for lane in self._all())

    def _all(self) -> list[Lane]:
        return [*self._lanes.values(), *self._streams.values()]

    def others(self, lane: Lane) -> Job:
        """A wait for what the lanes but `lane` have been given until now."""
        gates: list[threading.Event] = []
        for other in self._all():
            if other is not lane and other.busy:
                gates.append(threading.Event())
                other.submit(gates[-1].set)

        def wait() -> None:
            for gate in gates:
                gate.wait()

        return wait

    def after_all(self, job: Job, *, user_code: bool = False) -> None:
        """Run `job` once what was submitted until now is done: at once if all is.

        A job with `user_code` is not run here, but in the lane of Python that was used last.
        """
        busy = [lane for lane in self._all() if lane.busy]
        if not busy and user_code and self._latest is not None:
            busy = [self._latest]
        if not busy:
            job()
            return
        # The last of the lanes to get there runs it.
        lanes = Countdown(len(busy), job)
        for lane in busy:
            lane.submit(lanes.one_came)
