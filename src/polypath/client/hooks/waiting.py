"""Who waits for an array hears from its workers.

jaxlib's proxy client asks the head, which answers over gRPC once the workers have told it: processes and threads are
woken one after another. Here a program that only the controller knows (`controller.notices`) has the workers tell
this process itself. Small arrays come along. What is not answered like this is left to jaxlib, which also says why.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np
from jax._src import array as jax_array
from jax._src import lib

from polypath.client.hooks.cluster import compile_request, is_cluster, replace, takes_numbers
from polypath.client.hooks.interrupts import interruptible
from polypath.client.notices import Questions
from polypath.messages import MOST_ELEMENTS
from polypath.plugins import NOTIFY_REQUEST

_Array: Any = jax_array.ArrayImpl
_lib: Any = lib
_errors: Any = jax.errors

_DELETED: Final = "INVALID_ARGUMENT: BlockHostUntilReady() called on deleted or donated buffer"

_MOST_DEVICES: Final = 64
"""Of an array: the notices of all its hosts are to have room in the pipe."""
_MOST_ARRAYS: Final = 16
"""What takes longer than a notice is not faster by it."""
_MOST_KEPT: Final = 32
"""Small arrays that are freed together."""

_log = logging.getLogger(__name__)

_waiter: _Waiter | None = None


def install(client: Any, folder: Path | None) -> None:
    """Put the hooks in place; `folder` is the session's, None if it has none."""
    global _waiter
    _waiter = None
    questions = None
    try:
        questions = Questions(folder) if folder is not None and takes_numbers() else None
    except OSError as error:
        _log.info("Waits go through the head: %s", error)
    if questions is not None:
        _waiter = _Waiter(client, questions)
    replace(_Array, "block_until_ready", _block_until_ready, shortcut=True)
    replace(_Array, "is_ready", _is_ready, shortcut=True)
    replace(_lib.xla_client, "batched_block_until_ready", _batched_block_until_ready, shortcut=True)
    replace(_lib.xla_client.Client, "live_arrays", _live_arrays)


def close() -> None:
    """Nobody answers any more."""
    if (waiter := _waiter) is not None:
        waiter.close()


def uninstall() -> None:
    """There is no cluster any more."""
    global _waiter
    close()
    _waiter = None


def read(array: Any) -> np.ndarray[Any, Any] | None:
    """A small array's elements, read-only; None where they have to come another way."""
    return None if _waiter is None else _waiter.read(array)


def pointer(array: Any) -> int | None:
    """Where an array of one shard is in its worker's memory; None where nobody would tell."""
    return None if _waiter is None else _waiter.pointer(array)


def _block_until_ready(original: Any) -> Any:
    def block_until_ready(self: Any) -> Any:
        if _waiter is not None and _waiter.wait((self,)):
            return self
        with _told_as_elsewhere():
            return interruptible(lambda: original(self))

    return block_until_ready


def _is_ready(original: Any) -> Any:
    def is_ready(self: Any) -> bool:
        # jaxlib does not know what this process was told.
        return _is_there(self) or original(self)

    return is_ready


def _batched_block_until_ready(original: Any) -> Any:
    def batched_block_until_ready(arrays: Sequence[Any]) -> None:
        if _waiter is None or not _waiter.wait(arrays):
            with _told_as_elsewhere():
                interruptible(lambda: original(arrays))

    return batched_block_until_ready


@contextlib.contextmanager
def _told_as_elsewhere() -> Generator[None]:
    """Raise what jaxlib's other clients raise of a deleted array."""
    try:
        yield
    except _errors.JaxRuntimeError as error:
        if "lready deleted" not in str(error):  # "Array already deleted", "Already deleted array"
            raise
        raise _errors.JaxRuntimeError(_DELETED) from None


def _live_arrays(original: Any) -> Any:
    def live_arrays(self: Any) -> list[Any]:
        if _waiter is not None:
            _waiter.free()
        return original(self)

    return live_arrays


class _Waiter:
    """Asks about arrays of one session."""

    def __init__(self, client: Any, questions: Questions) -> None:
        self._client = client
        self._questions = questions
        self._lock = threading.Lock()
        self._programs: dict[tuple[int, bool], Any] = {}
        """By how many shards their arguments have, and whether elements are to come."""
        self._pointers: Any = None
        """The program that asks where an array of one shard is."""
        self._kept: list[Any] = []
        """Small arrays that were waited for."""

    def wait(self, arrays: Sequence[Any]) -> bool:
        """Whether these arrays are there; False where jaxlib has to be asked."""
        few = len(arrays) <= _MOST_ARRAYS
        new = [array for array in arrays if not _is_there(array)] if few else arrays
        if not new:
            return True
        devices = _devices(new[0])
        answer = None
        if devices and few and all(_devices(array) == devices for array in new[1:]):
            answer = self._ask(new, devices)
        if answer is None:
            return False
        for array in new if few else ():
            array._polypath_is_there = True
        return True

    def read(self, array: Any) -> np.ndarray[Any, Any] | None:
        dtype = array.dtype
        if dtype.kind in "OT" or array.size * dtype.itemsize > MOST_ELEMENTS or not array.is_fully_replicated:
            return None
        devices = _devices(array)
        if not devices:
            return None
        elements = self._ask([array], devices, elements=True)
        if elements is None:
            return None
        array._polypath_is_there = True
        return np.frombuffer(elements, dtype).reshape(array.shape)

    def pointer(self, array: Any) -> int | None:
        question = self._questions.ask()
        if question is None:
            return None
        try:
            if self._pointers is None:
                asked = {"devices": 1, "elements": True, "pointer": True}
                self._pointers = compile_request(self._client, NOTIFY_REQUEST, asked)
            self._pointers.execute_sharded([array], launch_id=question.number)
        except (_errors.JaxRuntimeError, ValueError) as error:  # It was deleted, say.
            _log.debug("Nobody tells where an array is: %s", error)
            self._questions.withdraw(question)
            return None
        answer = self._questions.wait(question)
        return None if answer is None else int.from_bytes(answer, "little")

    def _keep(self, arrays: Sequence[Any]) -> None:
        """Have small arrays live a little longer than the user holds them, and end together.

        jaxlib tells the head that an array was freed just before the next program, which then comes to a head that is
        at work on that.
        """
        if len(arrays) <= _MOST_ARRAYS and sum([array.nbytes for array in arrays]) <= MOST_ELEMENTS:
            self._kept += arrays
            if len(self._kept) >= _MOST_KEPT:
                self.free()

    def free(self) -> None:
        """Keep nothing that nobody else holds."""
        self._kept = []

    def close(self) -> None:
        """Ask nothing more."""
        self.free()
        self._questions.close()

    def _ask(self, arrays: Sequence[Any], devices: int, *, elements: bool = False) -> bytes | None:
        question = self._questions.ask()
        if question is None:
            return None
        try:
            self._program(devices, elements=elements).execute_sharded(arrays, launch_id=question.number)
        except (_errors.JaxRuntimeError, ValueError) as error:  # One was deleted, say.
            _log.debug("An array is asked about another way: %s", error)
            self._questions.withdraw(question)
            return None
        return self._questions.wait(question)

    def _program(self, devices: int, *, elements: bool) -> Any:
        program = self._programs.get((devices, elements))
        if program is not None:
            return program
        with self._lock:
            if (devices, elements) not in self._programs:
                asked = {"devices": devices, "elements": elements}
                self._programs[devices, elements] = compile_request(self._client, NOTIFY_REQUEST, asked)
            return self._programs[devices, elements]


def _is_there(array: Any) -> bool:
    """Whether somebody has heard of it."""
    return hasattr(array, "_polypath_is_there") and not array.is_deleted()


def _devices(array: Any) -> int:
    """How many it is on; 0 where it is not the cluster's, or too many."""
    devices = array.sharding.device_set
    ours = len(devices) <= _MOST_DEVICES and is_cluster(next(iter(devices)).client)
    return len(devices) if ours else 0
