"""Whether values are computed, and what waits for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from polypath.types import ValueId
from polypath.worker.executors.base import Executor
from polypath.worker.failures import DELETED, FailedValue
from polypath.worker.store import Shard, Store, Value
from polypath.worker.waits import Pending


class Readiness:
    """Looks at the values of one worker, for the apply loop."""

    def __init__(self, executor: Executor, store: Store) -> None:
        self._executor = executor
        self._store = store

    def look(self, names: tuple[ValueId, ...]) -> Callable[[], None] | None:
        """What waits for these values, if they are not there yet.

        Raises:
            Exception: one was deleted, or failed.
        """
        # The same went to every worker: some of the values have no part here.
        values = self._store.present(names)
        if len(values) == 1 and values[0].whole is not None:
            return self._look_at(values[0].whole)
        if self._executor.any_deleted([value.whole for value in values if value.execution]):
            raise FailedValue(DELETED)
        # One result of an execution stands for all.
        found = {value.execution: value.whole for value in values}
        pending: list[Pending] = []
        if 0 in found:
            del found[0]
            pending, others = self._pieces([value for value in values if not value.execution])
            parts = [*found.values(), *others]
        else:
            parts = list(found.values())
        wait = partial(self._wait_all, values, parts, pending)
        if pending or not all(map(self._executor.is_ready, parts)):
            return wait
        wait()  # One may have failed.
        return None

    def _look_at(self, whole: Any) -> Callable[[], None] | None:
        """`look` for what is asked about most often."""
        if self._executor.is_deleted(whole):
            raise FailedValue(DELETED)
        if not self._executor.is_ready(whole):
            return partial(self._wait, whole)
        self._executor.wait(whole)  # It may have failed.
        return None

    def _pieces(self, values: list[Value]) -> tuple[list[Pending], list[Shard]]:
        """What of these values is on its way, and what is here: computed or not, but not deleted."""
        pending: list[Pending] = []
        here: list[Shard] = []
        for value in values:
            for piece in value.pieces():
                shard = piece.wait() if isinstance(piece, Pending) and piece.done else piece
                if isinstance(shard, Pending):
                    pending.append(shard)
                elif not isinstance(shard, bytes):
                    here.append(shard)
        if self._executor.any_deleted(here):
            raise FailedValue(DELETED)
        return pending, here

    def _wait_all(self, values: list[Value], parts: list[Shard], pending: list[Pending]) -> None:
        arrived = [piece.wait() for piece in pending]
        try:
            self._executor.wait_all([*parts, *(shard for shard in arrived if not isinstance(shard, bytes))])
        except Exception:
            for value in values:
                for piece in value.pieces():
                    self._wait(piece.wait() if isinstance(piece, Pending) else piece)

    def _wait(self, shard: Shard) -> None:
        try:
            if not isinstance(shard, bytes):
                self._executor.wait(shard)
        except Exception:
            # Donated or deleted since it was asked about: nobody can see it fail any more.
            if not self._executor.is_deleted(shard):
                raise
