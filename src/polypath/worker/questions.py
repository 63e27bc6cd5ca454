"""Answers to what the controller asks: bytes of a shard, readiness, facts about a program.

Owns the threads that wait, so that the apply loop does not, and the list of what is not
answered yet: a worker that is to leave answers everything first.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec

from polypath import messages as m
from polypath.types import Code, Failure
from polypath.worker import host, protos
from polypath.worker.config import WorkerConfig
from polypath.worker.executors.base import Executor
from polypath.worker.failures import DELETED, WorkerFailure, failure_of
from polypath.worker.programs import Programs
from polypath.worker.readiness import Readiness
from polypath.worker.store import Shard, Store
from polypath.worker.waits import Pending

_log = logging.getLogger(__name__)

_THREADS: Final = 128
"""Answers that may wait at the same time."""
_CHEAP_BYTES: Final = 64 << 10
"""A shard of at most as many bytes is read where the question is met; a larger one on a thread."""

_LEFT: Final = Failure(
    Code.ABORTED,
    "The worker had to be started again, because a host beside it was lost, before it could answer; ask again.",
)

Handler = Callable[[Any], m.Ready | None]
"""Applies a command of one kind. What it returns is the answer; others come later, or are none."""
Question = m.Fetch | m.Await | m.CostAnalysis | m.ProgramText | m.DefaultLayout | m.MemoryStats | m.Holdings


class Questions:
    """One worker's answers."""

    def __init__(
        self,
        config: WorkerConfig,
        send: Callable[[m.Report], None],
        executor: Executor,
        store: Store,
        readiness: Readiness,
        programs: Programs,
    ) -> None:
        self._host = config.host
        self._hosts = (config.host,)
        self._send = send
        self._executor = executor
        self._store = store
        self._readiness = readiness
        self._programs = programs
        self._threads = ThreadPoolExecutor(_THREADS, "answer")
        self._lock = threading.Lock()
        self._open: dict[int, Question] = {}
        """By the controller's number."""

    def handlers(self) -> dict[type[m.Command], Handler]:
        return {
            m.Fetch: self._fetch,
            m.Await: self._await,
            m.CostAnalysis: self._cost_analysis,
            m.ProgramText: self._program_text,
            m.DefaultLayout: self._default_layout,
            m.MemoryStats: self._memory_stats,
            m.Holdings: self._holdings,
        }

    def close(self) -> None:
        """Answer what is still open by a failure; later answers to it are dropped."""
        with self._lock:
            left, self._open = self._open, {}
        for question in left.values():
            self._answer(question, _LEFT)

    # --- Beside the apply loop ----------------------------------------------------------------

    def _later(self, question: Question, answer: Callable[[], Any]) -> None:
        """Answer from a thread of its own."""
        with self._lock:
            self._open[question.request] = question
        self._threads.submit(self._answer_later, question, answer)

    def _answer_later(self, question: Question, answer: Callable[[], Any]) -> None:
        outcome = _outcome(answer)
        with self._lock:
            still_open = self._open.pop(question.request, None) is not None
        if still_open:
            self._answer(question, outcome)

    def _now(self, question: Question, answer: Callable[[], Any]) -> None:
        self._answer(question, _outcome(answer))

    def _answer(self, question: Question, outcome: Any) -> None:
        if isinstance(outcome, Failure) and outcome.code is Code.ABORTED:
            self._send(m.Failed(self._host, (), outcome, stranded=True))
        match question:
            case m.Await(request=request):
                self._send(m.Ready(self._hosts, request, outcome))
            case m.Fetch(request=request):
                self._send(m.Fetched(self._host, request, outcome))
            case _:
                self._send(m.Answered(self._host, question.request, outcome))

    # --- Values -------------------------------------------------------------------------------

    def _fetch(self, question: m.Fetch) -> None:
        try:
            shard = self._store.get(question.value).peek(question.device)
            if not isinstance(shard, bytes | Pending):
                if self._executor.is_deleted(shard):
                    raise WorkerFailure(DELETED.code, DELETED.message)
                if not self._is_cheap(shard):
                    # Later commands may donate or delete it before the thread gets to it.
                    shard = self._executor.hold(shard)
                    self._later(question, lambda: self._read(shard, question))
                    return
            elif isinstance(shard, Pending):
                self._later(question, lambda: self._read(shard, question))
                return
        except Exception as error:
            self._answer(question, failure_of(error))
            return
        self._now(question, lambda: self._read(shard, question))

    def _is_cheap(self, shard: Shard) -> bool:
        if not self._executor.is_ready(shard):
            return False
        dtype, shape = self._executor.shard_type(shard)
        return host.numpy_dtype(dtype).itemsize * math.prod(shape) <= _CHEAP_BYTES

    def _read(self, shard: Shard | Pending, question: m.Fetch) -> m.Memory:
        if isinstance(shard, Pending):
            shard = shard.wait()
        if isinstance(shard, bytes):
            return host.packed(shard)
        return host.packed(host.strided(self._executor.fetch(shard), question.strides))

    def _await(self, question: m.Await) -> m.Ready | None:
        try:
            wait = self._readiness.look(question.values)
            if wait is not None:
                self._later(question, wait)
                return None
        except Exception as error:
            self._answer(question, failure_of(error))
            return None
        return m.Ready(self._hosts, question.request, None)

    # --- Programs -----------------------------------------------------------------------------

    def _cost_analysis(self, question: m.CostAnalysis) -> None:
        def answer() -> m.Inline:
            costs = self._executor.cost_analysis(self._programs.get(question.executable))
            return m.Inline(msgspec.msgpack.encode(costs))

        self._later(question, answer)

    def _program_text(self, question: m.ProgramText) -> None:
        self._later(question, lambda: m.Inline(self._executor.text(self._programs.get(question.executable)).encode()))

    def _default_layout(self, question: m.DefaultLayout) -> None:
        def answer() -> m.Inline:
            q = question
            try:
                return m.Inline(self._executor.default_layout(q.dtype, q.shape, q.device, q.memory_kind))
            except Exception as error:
                # A client cannot live with an error here; row-major is what every platform has.
                _log.info("No default layout for %s%s: %s", q.dtype, q.shape, error)
                return m.Inline(protos.layout(tuple(reversed(range(len(q.shape))))))

        self._now(question, answer)

    def _memory_stats(self, question: m.MemoryStats) -> None:
        self._now(question, lambda: m.Inline(msgspec.msgpack.encode(self._executor.memory_stats(question.device))))

    def _holdings(self, question: m.Holdings) -> None:
        with self._lock:
            held = {"values": len(self._store), "programs": len(self._programs.loaded), "questions": len(self._open)}
        held |= {"threads": threading.active_count(), "files": len(list(Path("/proc/self/fd").iterdir()))}
        self._now(question, lambda: m.Inline(msgspec.msgpack.encode(held)))


def _outcome(answer: Callable[[], Any]) -> Any:
    try:
        return answer()
    except Exception as error:
        return failure_of(error)
