"""Host callbacks: runs the functions that programs on the cluster call, in this process.

Owns the stream on which calls come, the functions, and the threads that run them. How JAX is
made to hand its functions over is `client.backend`'s business.

Each call runs on a thread of its own, as calls of different devices are under way together and
one may wait for a person (`jax.debug.breakpoint`). No thread keeps the process from ending.
"""

from __future__ import annotations

import ctypes
import itertools
import logging
import queue
import secrets
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import grpc
import jax
import ml_dtypes
import numpy as np
import numpy.typing as npt

from polypath.errors import ClusterError
from polypath.frontend.callbacks import CLIENT_HEADER, SERVICE
from polypath.messages import Answer, Callbacks, Called, Elements, Results, decode_call, encode
from polypath.types import Code, Failure, HostId

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT: Final = 10
_GIVEN_UP: Final = Failure(
    Code.CANCELLED, "KeyboardInterrupt: the process that ran the program's function was interrupted, and ended."
)

Function = Callable[..., Any]


class CallbackServer:
    """This process's functions, served to one cluster.

    Args:
        target: the cluster's address, as gRPC takes it.
        here: makes JAX work in this process, in a `with` block.
    """

    def __init__(self, target: str, here: Callable[[], AbstractContextManager[object]]) -> None:
        self._here = here
        self._name = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._functions: dict[int, Sequence[Function]] = {}
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.RLock()  # A signal's handler may need it where its thread has it.
        self._running: dict[tuple[HostId, int], tuple[int, threading.Thread]] = {}
        """The number of the program, and the thread, by host and number of the call."""
        self._interrupted: set[tuple[HostId, int]] = set()
        """The calls that were under way when the user interrupted this process."""
        self._given_up: set[int] = set()
        """The programs whose functions are called no more."""
        self._channel = grpc.insecure_channel(
            target, options=(("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
        )
        stubs: Any = self._channel  # its methods have no types
        self._stream: Any = stubs.stream_stream(f"/{SERVICE}/Serve")(
            self._outgoing(), metadata=((CLIENT_HEADER, self._name.encode()),)
        )
        self._known = threading.Event()
        threading.Thread(target=self._read, name="host-callbacks", daemon=True).start()
        if not self._known.wait(_CONNECT_TIMEOUT):
            raise ClusterError(
                f"The cluster at {target} does not take host callbacks (jax.debug.print, pure_callback, io_callback): "
                "is it of the same version of Polypath as this process?"
            )

    def register(self, functions: Sequence[Function], compilers: Function | None = None) -> Callbacks:
        """Serve a program's functions, and what answers its compilers, until the cluster has dropped it."""
        number = next(self._numbers)
        count = len(functions)
        self._functions[number] = tuple(functions) if compilers is None else (*functions, compilers)
        return Callbacks(self._name, number, count, compilers is not None)

    def close(self) -> None:
        """Serve no more."""
        self._answers.put(None)
        self._channel.close()

    def interrupted(self) -> None:
        """The user interrupted this process. The functions that run now go on, but its end waits for none of them."""
        with self._lock:
            self._interrupted.update(self._running)

    def threads(self) -> list[threading.Thread]:
        """Those on which functions run."""
        with self._lock:
            return [thread for _, thread in self._running.values()]

    def give_up(self) -> list[threading.Thread]:
        """End the functions that were interrupted, and others of their programs, as this process ends.

        Their programs fail at once, as a function that is in C hears of nothing. The threads may run on.
        """
        with self._lock:
            calls = self._interrupted.intersection(self._running)
            self._given_up.update(self._running[call][0] for call in calls)
            calls = [call for call, (program, _) in self._running.items() if program in self._given_up]
            threads = [self._running.pop(call)[1] for call in calls]
        for (host, call), thread in zip(calls, threads, strict=True):
            self._answers.put(encode(Answer(host, call, _GIVEN_UP)))
            number, error = ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, error)
        return threads

    # --- The stream

    def _outgoing(self) -> Iterator[bytes]:
        while (answer := self._answers.get()) is not None:
            yield answer

    def _read(self) -> None:
        try:
            for data in self._stream:
                self._take(data)
        except (grpc.RpcError, RuntimeError) as error:  # The latter where Python ends, and starts no thread.
            _log.debug("The stream of host callbacks ended: %s", error)

    def _take(self, data: bytes) -> None:
        if not data:  # The head's first word.
            self._known.set()
            return
        message = decode_call(data)
        if isinstance(message, Called):
            program = message.callbacks.program
            thread = threading.Thread(target=self._run, args=(message,), name="host-callback", daemon=True)
            with self._lock:
                given_up = program in self._given_up
                if not given_up:
                    self._running[message.host, message.call] = program, thread
                    thread.start()
            if given_up:
                self._answers.put(encode(Answer(message.host, message.call, _GIVEN_UP)))
            return
        self._functions.pop(message.callbacks.program, None)

    def _run(self, called: Called) -> None:
        try:
            answer = self._answer(called)
            with self._lock:
                wanted = self._running.pop((called.host, called.call), None) is not None
                self._interrupted.discard((called.host, called.call))
            if wanted:
                self._answers.put(answer)
        except KeyboardInterrupt:  # It was given up just when it came to its end.
            _log.debug("A function was given up.")

    def _answer(self, called: Called) -> bytes:
        try:
            with self._here():
                result = self._call(called)
        except BaseException as error:
            # As in plain JAX, where XLA's message is the function's whole traceback.
            text = "".join(traceback.format_exception(error)).rstrip()
            result = Failure(Code.INTERNAL, text)
        return encode(Answer(called.host, called.call, result))

    def _call(self, called: Called) -> Results:
        functions = self._functions.get(called.callbacks.program)
        if functions is None:
            raise ClusterError(
                "The program was dropped before its function was called: keep it until its results are there."
            )
        function = functions[called.index]
        if called.in_place:
            buffers: list[_Buffer] = []
            for each in called.args:
                assert each is not None
                array = self._array(each) if each.same_as < 0 else buffers[each.same_as].array
                buffers.append(_Buffer(array, each.writeable))
            function(_Context(), *buffers)
            return Results(tuple(_elements(each.array) if each.writeable else None for each in buffers))
        results = function(*(None if each is None else self._array(each) for each in called.args))
        return Results(tuple(None if each is None else _elements(np.asarray(each)) for each in results))

    def _array(self, each: Elements) -> npt.NDArray[Any]:
        data = bytearray(each.data)  # of its own: what shares it may write
        return np.frombuffer(data, _dtype_of(each.dtype)).reshape(each.shape)


def _dtype_of(name: str) -> np.dtype[Any]:
    """numpy's type of that name, or ml_dtypes'."""
    return np.dtype(getattr(ml_dtypes, name, name))


def _elements(found: npt.NDArray[Any]) -> Elements:
    return Elements(str(found.dtype), found.shape, found.tobytes())


class _Buffer:
    """What `jax.experimental.buffer_callback` hands to a function: an array, to be written in place or only read."""

    def __init__(self, array: npt.NDArray[Any], writeable: bool) -> None:
        self.array = array
        self.writeable = writeable
        self.shape = array.shape
        self.ndim = array.ndim
        self.dtype = array.dtype

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.array, dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class _Context:
    """The execution that such a function is called from, as far as there is one in this process."""

    @property
    def stage(self) -> Any:
        from jax.experimental import buffer_callback

        module: Any = buffer_callback
        return module.ExecutionStage.EXECUTE

    @property
    def stream(self) -> int:
        errors: Any = jax.errors
        raise errors.JaxRuntimeError(
            "UNIMPLEMENTED: XLA FFI GPU context is not available: the function runs in the client's process, on a copy "
            "of the buffers."
        )
