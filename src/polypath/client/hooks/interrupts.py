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

_server: CallbackServer | None = None
_ending = _gave_up = False
_waits: set[threading.Thread] = set()


def begin(server: CallbackServer) -> None:
    """Functions of this process are served from now on."""
    global _server
    _server = server
    atexit.register(_end)  # Before JAX's own part at the end, which waits for the programs that call.
    on_main = threading.current_thread() is threading.main_thread()
    if on_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def end() -> None:
    """None are any more."""
    global _server
    _server = None
    atexit.unregister(_end)
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def give_up_interrupted() -> None:
    """Wait no more for functions that the user interrupted: their programs fail."""
    if _server is not None:
        _server.give_up()


def may_wait_for_functions() -> bool:
    """Whether what waits for the cluster may wait for a function of this process."""
    return _server is not None


def interruptible(wait: Callable[[], _T]) -> _T:
    """Call what waits in jaxlib so that Ctrl-C ends the wait, where it may be for a function of this process."""
    if _server is None or threading.current_thread() is not threading.main_thread():
        return wait()
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(wait())
        except BaseException as error:
            future.set_exception(error)
        _waits.discard(thread)

    thread = threading.Thread(target=run, name="polypath-wait", daemon=True)
    _waits.add(thread)
    try:
        thread.start()
    except RuntimeError:  # Python ends, and starts no thread.
        _waits.discard(thread)
        return wait()
    # Python does not hear of a Ctrl-C that comes just before it begins to wait: it has to look.
    while not future.done():
        with contextlib.suppress(TimeoutError):
            future.exception(_LOOK)
    return future.result()


def gave_up() -> bool:
    """Whether this process ends without functions that were interrupted, and without what their programs do still."""
    return _gave_up


def _interrupt(number: int, frame: Any) -> None:
    if _server is not None:
        _server.interrupted()
        if _ending:
            _server.give_up()
    signal.default_int_handler(number, frame)


def _end() -> None:
    global _ending, _gave_up
    _ending = True
    if _server is None:
        return
    given_up = _server.give_up()
    try:
        for thread in _server.threads():
            while thread.is_alive():
                thread.join(_LOOK)
    except KeyboardInterrupt:
        given_up += _server.give_up()
    _gave_up = bool(given_up)
    _join((*given_up, *_waits))


def _join(threads: Iterable[threading.Thread]) -> None:
    left = _GRACE
    for thread in threads:
        while thread.is_alive() and left > 0:
            thread.join(_LOOK)
            left -= _LOOK
