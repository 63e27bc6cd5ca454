"""Ctrl-C, and the end of this process, while programs on the cluster may call functions of it.

In plain JAX such a function runs where the user's script waits for it, so Ctrl-C ends both. Here it
runs on a thread, and the script waits in jaxlib, which does not hear of Ctrl-C: so that waits on a
thread, too. Ctrl-C ends the wait alone, and the function goes on, as its results may still be
wanted. When the process ends, it waits for its functions, but not for one that was interrupted.
"""

from __future__ import annotations

import atexit
import contextlib
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from polypath.client.callbacks import CallbackServer

_T = TypeVar("_T")

_LOOK: Final = 0.1
"""Seconds after which a wait looks whether there was a Ctrl-C."""
_GRACE: Final = 5.0
"""Seconds that threads have to end with the process. One that is in C++ when Python ends would abort it."""


class Interrupts:
    """Waits of one session; plain waits until `begin` names the server of this process's functions."""

    def __init__(self) -> None:
        self.gave_up = False
        """Whether this process ends without functions that were interrupted, and without what their programs do."""
        self._server: CallbackServer | None = None
        self._ending = False
        self._waits: set[threading.Thread] = set()

    def begin(self, server: CallbackServer) -> None:
        """Functions of this process are served from now on."""
        self._server = server
        atexit.register(self._end_process)  # Runs before JAX's own part, which waits for the programs that call.
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)

    def end(self) -> None:
        """None are any more. May be called where none ever were."""
        self._server = None
        atexit.unregister(self._end_process)
        # Another thread may not take the handler away; it passes on, as there is no server.
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def give_up_interrupted(self) -> None:
        """Wait no more for functions that the user interrupted: their programs fail."""
        if self._server is not None:
            self._server.give_up()

    def may_wait_for_functions(self) -> bool:
        """Whether a wait for the cluster may be a wait for a function of this process."""
        return self._server is not None

    def interruptible(self, wait: Callable[[], _T]) -> _T:
        """Call what waits in jaxlib so that Ctrl-C ends the wait, where it may be for a function of this process."""
        if self._server is None or threading.current_thread() is not threading.main_thread():
            return wait()
        future: Future[_T] = Future()

        def run() -> None:
            try:
                future.set_result(wait())
            except BaseException as error:
                future.set_exception(error)
            self._waits.discard(thread)

        thread = threading.Thread(target=run, name="polypath-wait", daemon=True)
        self._waits.add(thread)
        try:
            thread.start()
        except RuntimeError:  # Python ends, and starts no thread.
            self._waits.discard(thread)
            return wait()
        # Python does not hear of a Ctrl-C that comes just before it begins to wait: it has to look.
        while not future.done():
            with contextlib.suppress(TimeoutError):
                future.exception(_LOOK)
        return future.result()

    def _interrupt(self, number: int, frame: Any) -> None:
        if self._server is not None:
            self._server.interrupted()
            if self._ending:
                self._server.give_up()
        signal.default_int_handler(number, frame)

    def _end_process(self) -> None:
        self._ending = True
        if self._server is None:
            return
        given_up = self._server.give_up()
        try:
            for thread in self._server.threads():
                while thread.is_alive():
                    thread.join(_LOOK)
        except KeyboardInterrupt:
            given_up += self._server.give_up()
        self.gave_up = bool(given_up)
        _join((*given_up, *self._waits))


def _join(threads: Iterable[threading.Thread]) -> None:
    left = _GRACE
    for thread in threads:
        while thread.is_alive() and left > 0:
            thread.join(_LOOK)
            left -= _LOOK
