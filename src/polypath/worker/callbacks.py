"""Host callbacks: functions of the client's process that a program on this worker calls.

Owns the calls that are not answered. The compiler gets stand-ins, which send their arguments
and wait on whatever thread the program calls them from; the apply loop must not be that thread.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from polypath.messages import Callbacks, Called, Elements, Report, Results, Return
from polypath.types import Failure, HostId
from polypath.worker.host import numpy_dtype


class CallbackFailed(Exception):
    """The client's function raised, or could not be called; the message is all that is known."""


class HostCallbacks:
    """The calls from this worker to clients."""

    def __init__(self, host: HostId, send: Callable[[Report], None]) -> None:
        self._host = host
        self._send = send
        # Not from 0: an answer to a call of this host's earlier life must not be taken for another.
        self._numbers = itertools.count(secrets.randbits(62))
        self._lock = threading.Lock()
        self._open: dict[int, Future[Results | Failure]] = {}

    def stand_ins(self, callbacks: Callbacks) -> list[Callable[..., Any]]:
        """What the compiler takes for the client's functions, in their order."""
        return [_StandIn(self, callbacks, index) for index in range(callbacks.count)]

    def call(
        self, callbacks: Callbacks, index: int, args: tuple[Elements | None, ...], *, in_place: bool
    ) -> tuple[Elements | None, ...]:
        """Call the client's function and wait for it.

        Raises:
            CallbackFailed: it raised, or the client is gone.
        """
        number = next(self._numbers)
        future: Future[Results | Failure] = Future()
        with self._lock:
            self._open[number] = future
        self._send(Called(self._host, number, callbacks, index, args, in_place))
        result = future.result()
        if isinstance(result, Failure):
            raise CallbackFailed(result.message)
        return result.values

    def returned(self, command: Return) -> None:
        """Take an answer."""
        with self._lock:
            future = self._open.pop(command.call, None)
        if future is not None:  # else it is for an earlier life of this host
            future.set_result(command.result)


class _StandIn:
    """One function. XLA calls it with arrays, or with a context and buffers to be written in place."""

    def __init__(self, calls: HostCallbacks, callbacks: Callbacks, index: int) -> None:
        self._calls = calls
        self._callbacks = callbacks
        self._index = index

    def __call__(self, *args: Any) -> tuple[npt.NDArray[Any] | None, ...]:
        if args and hasattr(args[0], "stage"):
            self._write(args[0], args[1:])
            return ()
        sent = tuple(None if arg is None else elements(arg) for arg in args)
        results = self._calls.call(self._callbacks, self._index, sent, in_place=False)
        return tuple(None if each is None else array(each) for each in results)

    def _write(self, context: Any, buffers: Sequence[Any]) -> None:
        from polypath.worker import jaxlib

        lent = [jaxlib.LentBuffer(context, buffer) for buffer in buffers]
        sent: list[Elements] = []
        first: dict[int, int] = {}  # by address: an input that is given up shares its memory with an output
        for each in lent:
            at = first.setdefault(each.address, len(sent)) if each.array.size else len(sent)
            if at < len(sent):
                sent.append(Elements(str(each.array.dtype), each.array.shape, b"", each.writeable, at))
            else:
                sent.append(msgspec.structs.replace(elements(each.array), writeable=each.writeable))
        written = self._calls.call(self._callbacks, self._index, tuple(sent), in_place=True)
        for target, each in zip(lent, written, strict=True):
            if each is not None:
                target.write(array(each))


def elements(found: npt.NDArray[Any]) -> Elements:
    """An array as a message."""
    return Elements(str(found.dtype), found.shape, found.tobytes())


def array(each: Elements) -> npt.NDArray[Any]:
    """The array in a message."""
    return np.frombuffer(each.data, numpy_dtype(each.dtype)).reshape(each.shape)
