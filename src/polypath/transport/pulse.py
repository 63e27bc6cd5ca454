"""The heartbeats (`beats`) of links in motion: by a thread at the lower end, by the loop's timer at the upper ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Final

from polypath.transport.beats import Beats
from polypath.types import HostId

START_PATIENCE: Final = 180.0
"""Seconds that a process may take from its start until it connects; a first start compiles and loads much."""


class LowerPulse:
    """The heartbeat of the lower end of one link.

    It has a thread of its own, as the thread that reads commands may be busy for long with one of them. The thread
    holds Python's global lock (GIL) for some microseconds per step. So a worker is given up wrongly only if a single
    function in C holds that lock for the whole patience, such as `sum(range(10**10))` in colocated Python. A user who
    calls such a function on a worker needs a longer patience.
    """

    def __init__(
        self, patience: float, came: Callable[[], bool], beat: Callable[[], None], silent: Callable[[str], None]
    ) -> None:
        """`came` tells whether something came since its last call, `beat` sends a beat; neither waits.

        `silent` is called once, with a sentence, if the upper end has been silent for `patience` seconds.
        """
        self._beats = Beats(patience)
        self._came = came
        self._beat = beat
        self._silent = silent
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beats", daemon=True)

    def start(self) -> None:
        """The link is connected."""
        self._beats.heard(time.monotonic())
        self._thread.start()

    def stop(self) -> None:
        """Send no more, and give nobody up."""
        self._over.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        beats = self._beats
        while not self._over.wait(beats.interval):
            now = time.monotonic()
            if self._came():
                beats.heard(now)
            if beats.silent(now):
                self._silent(f"The head, or the relay above, did not answer for {beats.patience:g} s.")
                return
            if beats.due(now):
                self._beat()
                beats.sent(now)


class UpperPulse:
    """The heartbeats of the upper ends of all links below one node, on its loop."""

    def __init__(
        self, patience: float, beat: Callable[[list[HostId]], object], silent: Callable[[HostId, float], None]
    ) -> None:
        """`beat` sends a beat to these hosts; `silent` is told which host was silent, and for how many seconds.

        These are `patience`, or `START_PATIENCE` (if that is longer) for a host that has not connected yet.
        """
        self._patience = patience
        self._beat = beat
        self._silent = silent
        self._beats: dict[HostId, Beats] = {}
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(Beats(patience).interval, self._step)

    def expect(self, host: HostId) -> None:
        """A process below is being started."""
        self._watch(host, max(self._patience, START_PATIENCE))

    def connected(self, host: HostId) -> None:
        """The process is watched from now until `forget`, even if its link breaks before."""
        self._watch(host, self._patience)

    def _watch(self, host: HostId, patience: float) -> None:
        self._beats[host] = Beats(patience)
        self.heard(host)

    def heard(self, host: HostId) -> None:
        if (beats := self._beats.get(host)) is not None:
            beats.heard(self._loop.time())

    def forget(self, host: HostId) -> None:
        self._beats.pop(host, None)

    def stop(self) -> None:
        self._timer.cancel()

    def _step(self) -> None:
        now = self._loop.time()
        silent = {host: beats.patience for host, beats in self._beats.items() if beats.silent(now)}
        for host in silent:
            del self._beats[host]
        if due := [host for host, beats in self._beats.items() if beats.due(now)]:
            self._beat(due)
            for host in due:
                self._beats[host].sent(now)
        self._timer = self._loop.call_later(Beats(self._patience).interval, self._step)
        for host, seconds in silent.items():
            self._silent(host, seconds)
