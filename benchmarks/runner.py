"""Runs one contender's processes to their end, within a limit, and leaves none behind.

Knows nothing of what is measured: a contender is one or more commands that start together, and
the first prints one JSON line.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import psutil

from polypath.launch.child import die_with_parent
from polypath.processes import describe_exit, last_words

STOP_GRACE: Final = 15.0
_PR_SET_CHILD_SUBREAPER: Final = 36
_TAIL_LINES: Final = 20


@dataclass(frozen=True)
class Command:
    """One process of a contender."""

    arguments: Sequence[str]
    environment: Mapping[str, str]


class ContenderFailed(Exception):
    """It did not print its line. `said` is the end of what its processes wrote."""

    def __init__(self, why: str, said: str) -> None:
        super().__init__(why)
        self.said = said


def adopt_orphans() -> None:
    """Become the parent of whatever a contender leaves behind, so that it can be ended.

    Raises:
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def run(commands: Sequence[Command], limit: float) -> dict[str, Any]:
    """The line that the first command prints.

    Raises:
        ContenderFailed: a process ended with another status than 0, or not within `limit` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / str(index) for index in range(len(commands))]
        output = Path(folder) / "output"
        children: list[subprocess.Popen[bytes]] = []
        try:
            with contextlib.ExitStack() as files:
                first = files.enter_context(output.open("wb"))
                for command, log in zip(commands, logs, strict=True):
                    errors = files.enter_context(log.open("wb"))
                    children.append(_start(command, errors if children else first, errors))
            why, culprit = _wait(children, limit)
        finally:
            _end(children)
        said = _tail(logs[culprit])
        if why:
            words = last_words(logs[culprit])
            raise ContenderFailed(f"{why}: {words}" if words else why, said)
        lines = output.read_text(errors="replace").splitlines()
        try:
            return json.loads(lines[-1])
        except (IndexError, json.JSONDecodeError) as error:
            raise ContenderFailed("ended well without printing its figures", said) from error


def _start(command: Command, output: IO[bytes], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command.arguments,
        env=command.environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        # A Ctrl-C at the terminal comes to us alone; `_end` passes it on.
        start_new_session=True,
        # Safe here: this process has no other threads.
        preexec_fn=functools.partial(die_with_parent, os.getpid(), signal.SIGTERM),  # noqa: PLW1509
    )


def _wait(children: Sequence[subprocess.Popen[bytes]], limit: float) -> tuple[str, int]:
    """Until all have ended well, or one has not: why not (empty if all is well), and which one."""
    deadline = time.monotonic() + limit
    poll = select.poll()
    running: dict[int, int] = {}
    with contextlib.ExitStack() as descriptors:
        for index, child in enumerate(children):
            descriptor = os.pidfd_open(child.pid)
            descriptors.callback(os.close, descriptor)
            poll.register(descriptor, select.POLLIN)
            running[descriptor] = index
        while running:
            ended = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ended:
                return f"had not ended after {limit:.0f} s", min(running.values())
            for descriptor, _ in ended:
                poll.unregister(descriptor)
                index = running.pop(descriptor)
                if status := children[index].wait():
                    return describe_exit(status), index
    return "", 0


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.terminate()
    deadline = time.monotonic() + STOP_GRACE
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))
    if not _wait_descendants(STOP_GRACE / 3):
        for process in _descendants():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        _wait_descendants(STOP_GRACE / 3)


def _wait_descendants(timeout: float) -> bool:
    """Wait until none is left; False if some are after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while left := _descendants():
        if time.monotonic() >= deadline:
            return False
        # In slices: of two that we wait for, one may have left the other to us meanwhile, to be reaped.
        psutil.wait_procs(left, timeout=0.2)
    return True


def _descendants() -> list[psutil.Process]:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return psutil.Process().children(recursive=True)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
