"""Runs one test file in a process and says how each of its tests came out.

The process may crash or hang; the test that it did so in is known from what it told before. Owns
the process, its log and its time limits. Nothing of it is left when `run_file` returns.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from polypath.conformance.events import Begun, Done, Ended, Event, Found, Outcome, Request, Unusable
from polypath.processes import describe_exit

_COMMAND: Final = (sys.executable, "-P", "-m", "polypath.launch.child")
CHILD: Final = "polypath.conformance.child"
_TICK: Final = 0.5
"""Seconds; how soon a wish to stop is seen."""
_GRACE: Final = 5.0
"""Seconds that a hung process gets to write its stacks to its log."""
_LAST_WORDS: Final = re.compile(r"^(F\d{4} .*|Fatal Python error.*|.*terminate called.*|.*Check failed.*)$", re.M)


class Limits(msgspec.Struct, frozen=True):
    """Seconds."""

    file: float = 1800.0
    test: float = 300.0


class TestRun(msgspec.Struct, frozen=True):
    """How one test came out on one side."""

    __test__ = False  # pytest need not look into it.

    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0


class FileRun(msgspec.Struct):
    """How a file came out on one side."""

    tests: dict[str, TestRun]
    """Those that were to run, in the file's order."""
    found: list[str]
    """All that the file has."""
    seconds: float
    note: str = ""
    """Why not everything ran in order; empty if it did."""
    died: bool = False
    """Whether the process crashed or hung."""


class Stopped(Exception):
    """The run is being given up."""


def run_file(
    path: Path,
    tests: Sequence[str] | None,
    environment: Mapping[str, str],
    limits: Limits,
    log: Path,
    *,
    checkout: Path | None = None,
    module: str = CHILD,
    stop: threading.Event | None = None,
) -> FileRun:
    """Run these tests of a file, or all of them; none of them only finds out which there are.

    Args:
        module: what the process runs; it tells its events.

    Raises:
        Stopped: `stop` was set.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    record = _Record(tests)
    with tempfile.TemporaryDirectory(prefix="polypath-conformance-") as scratch:
        receive, tell = os.pipe()
        request = Request(str(path), tell, None if tests is None else list(tests), str(checkout or ""))
        request_path = Path(scratch) / "request.json"
        request_path.write_bytes(msgspec.json.encode(request))
        with log.open("wb") as output:
            try:
                process = subprocess.Popen(
                    # Ends with us, however we end; -P keeps the folder that it runs in out of its way.
                    (*_COMMAND, str(os.getpid()), module, str(request_path)),
                    env={**environment, "TEST_TMPDIR": scratch},
                    cwd=scratch,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(tell,),
                    start_new_session=True,
                )
            finally:
                os.close(tell)
        try:
            ending = _watch(process, receive, record, limits, began, stop)
        finally:
            # Before the process is reaped, so that its number is nobody else's.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(receive)
    if not ending and process.returncode:
        ending = _crash(process.returncode, log)
    return record.close(ending, time.monotonic() - began)


def _watch(
    process: subprocess.Popen[bytes],
    receive: int,
    record: _Record,
    limits: Limits,
    began: float,
    stop: threading.Event | None,
) -> str:
    """Read until the process ends; how it hung, if it did."""
    os.set_blocking(receive, False)
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(receive, select.POLLIN)
        heard = time.monotonic()
        while True:
            if stop is not None and stop.is_set():
                raise Stopped
            ready = dict(poll.poll(_TICK * 1000))
            if receive in ready:
                data = _read(receive)
                if data:
                    heard = time.monotonic()
                    record.feed(data)
                elif pidfd not in ready:  # It closed its end, and lives.
                    poll.unregister(receive)
            if pidfd in ready:
                while data := _read(receive):
                    record.feed(data)
                return ""
            now = time.monotonic()
            if now - heard > limits.test:
                hung = f"hung: no answer for {limits.test:.0f} s"
            elif now - began > limits.file:
                hung = f"hung: the file's {limits.file:.0f} s were over"
            else:
                continue
            # absl has the stacks written on SIGTERM.
            process.terminate()
            select.select([pidfd], [], [], _GRACE)
            return hung
    finally:
        os.close(pidfd)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return b""


def _crash(status: int, log: Path) -> str:
    """How a process ended that should not have, with its last words."""
    how = describe_exit(status).replace("killed by", "crashed with")
    words = _LAST_WORDS.findall(log.read_text(errors="replace"))
    return how + (f" ({words[0].strip()[:300]})" if words else "")


class _Record:
    """What one process told."""

    def __init__(self, wanted: Sequence[str] | None) -> None:
        self._wanted = wanted
        self._rest = b""
        self._found: list[str] | None = None
        self._runs: dict[str, TestRun] = {}
        self._current: str | None = None
        self._unusable = ""
        self._done = False

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(msgspec.json.decode(line, type=Event))

    def _take(self, event: Event) -> None:
        match event:
            case Found(tests):
                self._found = tests
            case Begun(test):
                self._current = test
            case Ended(test, outcome, reason, seconds):
                self._runs[test] = TestRun(outcome, reason, seconds)
                self._current = None
            case Unusable(reason):
                self._unusable = self._unusable or reason
            case Done():
                self._done = True

    def close(self, ending: str, seconds: float) -> FileRun:
        """Everything, when the process is gone. `ending` says how it crashed or hung, if so."""
        found = self._found or []
        wanted = found if self._wanted is None else self._wanted
        note = ending or self._unusable
        if ending and self._current is not None:
            outcome = Outcome.HUNG if ending.startswith("hung") else Outcome.CRASHED
            self._runs[self._current] = TestRun(outcome, ending)
            note = f"{self._current} {ending}"
            why = f"not run: {self._current} had {_past(ending)}"
        elif ending:
            note = f"{ending} {'after its last test' if self._done else 'outside of any test'}"
            why = f"not run: the process {note}"
        elif self._unusable:
            why = f"not run: the file {self._unusable}"
        else:
            why = "not run: the file has no such test here"
        missing = TestRun(Outcome.NOT_RUN, why)
        runs = {test: self._runs.get(test, missing) for test in wanted}
        return FileRun(runs, found, round(seconds, 1), note, bool(ending))


def _past(ending: str) -> str:
    return "hung" if ending.startswith("hung") else ending
