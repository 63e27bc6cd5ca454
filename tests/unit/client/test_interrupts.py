"""Waits that hear of Ctrl-C, where functions of this process are served."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from unittest import mock

import pytest

from polypath.client.interrupts import Interrupts


@pytest.fixture
def server() -> mock.Mock:
    return mock.Mock(**{"give_up.return_value": [], "threads.return_value": []})


@pytest.fixture
def interrupts(server: mock.Mock) -> Iterator[Interrupts]:
    interrupts = Interrupts()
    interrupts.begin(server)
    yield interrupts
    interrupts.end()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def fail() -> None:
    raise KeyError("failed")


def test_without_functions_a_wait_is_a_call() -> None:
    interrupts = Interrupts()
    assert not interrupts.may_wait_for_functions()
    assert interrupts.interruptible(threading.current_thread) is threading.current_thread()
    interrupts.give_up_interrupted()
    interrupts.end()


def test_a_wait_gives_what_it_waited_for(interrupts: Interrupts) -> None:
    assert interrupts.may_wait_for_functions()
    assert interrupts.interruptible(threading.current_thread) is not threading.current_thread()
    with pytest.raises(KeyError, match="failed"):
        interrupts.interruptible(fail)


def test_only_the_main_threads_waits_hear_of_it(interrupts: Interrupts) -> None:
    found: list[threading.Thread] = []
    thread = threading.Thread(target=lambda: found.append(interrupts.interruptible(threading.current_thread)))
    thread.start()
    thread.join()
    assert found == [thread]


def test_ctrl_c_ends_the_wait_and_not_the_function(interrupts: Interrupts, server: mock.Mock) -> None:
    go_on, ended = threading.Event(), threading.Event()

    def wait() -> None:
        signal.raise_signal(signal.SIGINT)
        go_on.wait(60)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        interrupts.interruptible(wait)
    server.interrupted.assert_called_once_with()
    server.give_up.assert_not_called()
    go_on.set()
    assert ended.wait(60)


def test_the_end_of_the_process_waits_for_functions(interrupts: Interrupts, server: mock.Mock) -> None:
    function = threading.Thread(target=lambda: None)
    function.start()
    server.threads.return_value = [function]
    interrupts._end_process()
    assert not function.is_alive()
    assert not interrupts.gave_up


def test_the_end_of_the_process_gives_up_what_was_interrupted(interrupts: Interrupts, server: mock.Mock) -> None:
    given_up = threading.Thread(target=lambda: None)
    given_up.start()
    server.give_up.return_value = [given_up]
    interrupts._end_process()
    assert interrupts.gave_up


def test_a_handler_of_somebody_else_stays(server: mock.Mock) -> None:
    theirs = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupts = Interrupts()
        interrupts.begin(server)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        interrupts.end()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, theirs)


def test_another_thread_may_end_it(server: mock.Mock) -> None:
    interrupts = Interrupts()
    interrupts.begin(server)
    thread = threading.Thread(target=interrupts.end)
    thread.start()
    thread.join()
    with pytest.raises(KeyboardInterrupt):  # The handler that stays passes it on.
        signal.raise_signal(signal.SIGINT)
    interrupts.end()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
