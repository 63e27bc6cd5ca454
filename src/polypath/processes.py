"""Which process is which, and ending them.

A pid alone names nothing for long: the kernel gives it to another process. A pid with its
start time does. Linux only (`/proc`).
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import time
from pathlib import Path
from typing import Final

MOST_FILES: Final = 65536
_STATE: Final = 0
_START: Final = 19


def raise_file_limit() -> None:
    """Let this process and those it starts open as many files as they may: each host and each client takes some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def start_time(pid: int) -> int | None:
    """When `pid` began, in clock ticks since the machine did; None if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold spaces and brackets, so fields count from after its last bracket.
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE] in "ZX" else int(fields[_START])


def runs(pid: int, started: int) -> bool:
    """Whether the process that began then under this pid is still there."""
    return start_time(pid) == started


def describe_exit(status: int) -> str:
    """How a process ended, for people, from `Popen.returncode`."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def last_words(log: Path, offset: int = 0, limit: int = 300) -> str:
    """The last line in `log` past `offset` that says something; empty if none."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(offset, end - 8192))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:limit] if lines else ""


class Family:
    """A process and its children, theirs, ..., held so that no other process is taken for one of them.

    Waits on pidfds, for which an ended process counts as ended also where nobody reaps it (as
    in a container whose first process is not an init).
    """

    def __init__(self, pid: int) -> None:
        import psutil  # On the way of no start.

        self._pidfds: list[int] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(ProcessLookupError):
                    self._pidfds.append(os.pidfd_open(process.pid))

    def end(self, grace: float) -> None:
        """Wait for all to end by themselves; after `grace` seconds kill what is left, and wait."""
        for fd in self._wait(grace):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        self._wait(grace)
        for fd in self._pidfds:
            os.close(fd)
        self._pidfds.clear()

    def _wait(self, timeout: float) -> set[int]:
        """Those that have not ended in time."""
        alive = set(self._pidfds)
        poll = select.poll()
        for fd in alive:
            poll.register(fd, select.POLLIN)
        deadline = time.monotonic() + timeout
        while alive and (left := deadline - time.monotonic()) > 0:
            for fd, _ in poll.poll(left * 1000):
                poll.unregister(fd)
                alive.remove(fd)
        return alive
