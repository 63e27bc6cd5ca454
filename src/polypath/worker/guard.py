"""Only processes of this user may connect to gloo, which runs the collectives of CPU devices.

gloo listens on a port of 127.0.0.1 and takes whoever connects for a member of the group. Another user of the machine
could take a host's place in a collective, or end the worker by using up its file descriptors. gloo cannot ask who
connects, but the kernel can: with a seccomp filter, each `accept` of gloo's thread waits for a thread of ours
(seccomp_unotify(2)), which makes the same call, looks up whose the connection is, and closes another user's.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import platform
import socket
import struct
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)

_CALLS: Final = {"x86_64": (317, 43, 288), "aarch64": (277, 202, 242)}
"""Numbers of the calls seccomp, accept and accept4."""
_PR_SET_NO_NEW_PRIVS: Final = 38
_SET_FILTER: Final = 1
_ACTION_AVAILABLE: Final = 2
_FILTER_FLAGS: Final = 1 << 3 | 1 << 2
"""Give a descriptor to listen on; and turn no mitigation of Spectre on, which would slow gloo down."""
_ALLOW: Final = 0x7FFF0000
_NOTIFY: Final = 0x7FC00000
_LOAD_NUMBER: Final = (0x20, 0, 0, 0)
_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_RECEIVE: Final = 0xC0502100
_SEND: Final = 0xC0182101
_CALL: Final = struct.Struct("=QIIiIQ6Q")
"""`struct seccomp_notif`: an id, the thread, flags, the call's number, the architecture, where from, the arguments."""
_ANSWER: Final = struct.Struct("=QqiI")
"""`struct seccomp_notif_resp`: the id, the value to return, or minus the error, and flags."""
_ESTABLISHED: Final = "01"
_BATCH: Final = 64
"""At most so many connections wait for a look at whose they are."""
_MOST_TOLD: Final = 16
"""At most so many users are told of in the log."""


def missing() -> str:
    """Why this kernel cannot do it; empty if it can."""
    if platform.machine() not in _CALLS:
        return f"not written for {platform.machine()}"
    action = ctypes.c_uint32(_NOTIFY)
    if _libc().syscall(_CALLS[platform.machine()][0], _ACTION_AVAILABLE, 0, ctypes.byref(action)):
        return f"the kernel has no seccomp notifications ({os.strerror(ctypes.get_errno())})"
    return ""


def guarded(make: Callable[[], T]) -> T:
    """What `make` returns. Threads that it starts accept connections of this user's processes only.

    `make` is called on a thread of its own. Where the kernel allows no filter, that is logged and nobody is refused.
    """
    made: Future[T] = Future()

    def run() -> None:
        try:
            _install()
        except OSError as error:
            _log.warning(
                "Other users of this machine can connect to collectives, and break them: no guard can be set up (%s).",
                missing() or error,
            )
        try:
            made.set_result(make())
        except BaseException as error:
            made.set_exception(error)

    threading.Thread(target=run, name="guarded", daemon=True).start()
    return made.result()


def _install() -> None:
    """Have accepts of this thread, and of those it starts from now on, made by a new thread that is not among them.

    Raises:
        OSError: the kernel refuses.
    """
    if platform.machine() not in _CALLS:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    seccomp, accept, accept4 = _CALLS[platform.machine()]
    listener: Future[int] = Future()
    # It starts before there is a filter, which it would inherit.
    threading.Thread(target=_serve, args=(listener,), name="guard", daemon=True).start()
    steps = (
        _LOAD_NUMBER,
        (_IF_EQUAL, 1, 0, accept),
        (_IF_EQUAL, 0, 1, accept4),
        (_RETURN, 0, 0, _NOTIFY),
        (_RETURN, 0, 0, _ALLOW),
    )
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    program = struct.pack("@HP", len(steps), ctypes.addressof(buffer := ctypes.create_string_buffer(code)))
    libc = _libc()
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # Of this thread. Without it only root may.
    found = libc.syscall(seccomp, _SET_FILTER, _FILTER_FLAGS, program)
    del buffer
    if found < 0:
        number = ctypes.get_errno()
        error = OSError(number, os.strerror(number))
        listener.set_exception(error)
        raise error
    listener.set_result(found)


def _serve(listener: Future[int]) -> None:
    """Make the calls, as long as the process lives."""
    if listener.exception() is not None:
        return
    door, descriptor = _Door(), listener.result()
    while True:
        call = bytearray(_CALL.size)
        with contextlib.suppress(OSError):  # Who called has ended meanwhile.
            fcntl.ioctl(descriptor, _RECEIVE, call)
            number, _, _, name, _, _, *arguments = _CALL.unpack(call)
            value, error = door.accept(name, arguments)
            fcntl.ioctl(descriptor, _SEND, bytearray(_ANSWER.pack(number, value, -error, 0)))


class _Door:
    """Accepts for gloo, whose only listening socket does not block."""

    def __init__(self) -> None:
        self._admitted: collections.deque[int] = collections.deque()
        """Descriptors that were accepted and not yet asked for."""
        self._refused: set[int | None] = set()
        """Users that were told of."""

    def accept(self, name: int, arguments: list[int]) -> tuple[int, int]:
        """The next connection that is this user's, and 0; or 0 and the number of an error."""
        while not self._admitted:
            # The caller is of this process: descriptors and addresses are ours, too.
            found = _libc().syscall(name, *(ctypes.c_ulong(each) for each in arguments[:4]))
            if found < 0:
                return 0, ctypes.get_errno()
            batch = [socket.socket(fileno=found)]
            # A stranger may send thousands: one look at the kernel's table is for many.
            while len(batch) < _BATCH:
                found = _libc().syscall(name, arguments[0], None, None, ctypes.c_ulong(arguments[3]))
                if found < 0:
                    break
                batch.append(socket.socket(fileno=found))
            self._sort(batch)
        return self._admitted.popleft(), 0

    def _sort(self, batch: list[socket.socket]) -> None:
        users = _users()
        for connection in batch:
            user = users.get(_ends(connection))
            if user == os.geteuid():
                self._admitted.append(connection.detach())
                continue
            connection.close()
            if user not in self._refused and len(self._refused) < _MOST_TOLD:
                self._refused.add(user)
                _log.warning("Refused a connection of another user (uid %s).", "unknown" if user is None else user)


def _users() -> dict[tuple[str, str], int]:
    """Whose each connected TCP socket of this machine is, by its own address and its peer's."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
    return {(row[1], row[2]): int(row[7]) for row in rows if row[3] == _ESTABLISHED}


def _ends(connection: socket.socket) -> tuple[str, str]:
    """The peer's address and ours, as the kernel writes them; empty where the peer is gone."""
    try:
        peer, own = connection.getpeername(), connection.getsockname()
    except OSError:
        return "", ""
    return _written(peer), _written(own)


def _written(end: tuple[str, int]) -> str:
    return f"{int.from_bytes(socket.inet_aton(end[0]), sys.byteorder):08X}:{end[1]:04X}"


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
