"""Who may connect to what gloo listens on; `tests/cluster/test_access.py` tries it as another user."""

from __future__ import annotations

import os
import queue
import select
import socket
import threading

import pytest

from polypath.worker import guard


class Listens:
    """As gloo: a thread that accepts what comes to a listener that does not block."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.accepted: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while self._stop not in select.select([self.listener, self._stop], [], [])[0]:
            try:
                while True:
                    self.accepted.put(self.listener.accept()[0])
            except BlockingIOError:
                pass

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname(), 30)

    def close(self) -> None:
        os.write(self._stopped, b"x")
        self._thread.join()
        os.close(self._stop)
        os.close(self._stopped)
        self.listener.close()


def test_this_users_connections_are_accepted_and_others_are_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if why := guard.missing():
        pytest.skip(f"this machine has no guard: {why}")
    at = guard.guarded(Listens)
    try:
        for _ in range(2):
            with at.connect() as stream, at.accepted.get(timeout=30) as accepted:
                stream.sendall(b"hello")
                assert accepted.recv(5) == b"hello"
        with monkeypatch.context() as patch:
            patch.setattr(guard.os, "geteuid", lambda: os.getuid() + 1)
            streams = [at.connect() for _ in range(3)]
            for stream in streams:
                assert stream.recv(1) == b""
                stream.close()
        assert at.accepted.empty()
        assert caplog.text.count(f"Refused a connection of another user (uid {os.getuid()})") == 1
        with at.connect(), at.accepted.get(timeout=30):
            pass
    finally:
        at.close()


def test_where_the_kernel_has_no_guard_that_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard.platform, "machine", lambda: "abacus")
    assert guard.guarded(lambda: 7) == 7
    assert "Other users of this machine can connect to collectives" in caplog.text
    assert "not written for abacus" in caplog.text


def test_what_fails_to_be_made_fails_for_who_asked() -> None:
    def fail() -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        guard.guarded(fail)
