"""Traces: what each worker did between two runs of a program, in files that TensorBoard opens."""

from __future__ import annotations

import socket
import threading
from typing import Final, final

from polypath.plugins import Profile
from polypath.types import ArraySpec, Code, DeviceId, HostId, Sharding
from polypath.worker import jaxlib
from polypath.worker.executors.base import Launched
from polypath.worker.failures import WorkerFailure
from polypath.worker.plugins import storage
from polypath.worker.plugins.base import Plugin
from polypath.worker.store import Value

_OBJECT: Final = b"\n\0"
"""A serialized `StringArrayContents` of one empty string: an array of objects that nobody reads."""


@final
class Profiler:
    """The one trace that a process may take at a time."""

    def __init__(self, host: HostId) -> None:
        self.host = host
        self.file = f"{socket.gethostname()}-worker{host}.xplane.pb"
        self._lock = threading.Lock()
        self._owner: Tracer | None = None
        self._trace: jaxlib.Trace | None = None
        self._taken = b""

    def start(self, owner: Tracer) -> None:
        """Begin to trace for `owner`.

        Raises:
            WorkerFailure: a trace is being taken already.
        """
        with self._lock:
            if self._owner is not None:
                raise WorkerFailure(
                    Code.FAILED_PRECONDITION,
                    f"Host {self.host} takes a trace for {self._owner.asked.folder} already, and can take one at a "
                    "time; stop that one first.",
                )
            asked = owner.asked
            self._trace = jaxlib.Trace(asked.host_level, asked.python, asked.advanced)
            self._owner = owner

    def pause(self, owner: Tracer) -> None:
        """Keep what was traced so far, and trace no more."""
        with self._lock:
            if self._owner is owner and self._trace is not None:
                self._taken, self._trace = self._trace.stop(), None

    def stop(self, owner: Tracer) -> bytes | None:
        """What was traced for `owner`; None if nothing is."""
        self.pause(owner)
        with self._lock:
            if self._owner is not owner:
                return None
            taken, self._taken, self._owner = self._taken, b"", None
            return taken


@final
class Tracer(Plugin):
    """Starts a trace when run for the first time, and writes it when run for the second."""

    def __init__(
        self, asked: Profile, devices: tuple[DeviceId, ...], local: tuple[DeviceId, ...], profiler: Profiler
    ) -> None:
        result = ArraySpec("string", (1,), Sharding(devices[:1], fully_replicated=True))
        super().__init__("profile", devices, local, (result,) * asked.results)
        self.asked = asked
        self._profiler = profiler
        self._timer: threading.Timer | None = None
        storage.check(asked.folder, "A trace")

    def run(self, args: list[Value]) -> Launched:
        taken = self._profiler.stop(self)
        if taken is None:
            self._start()
        else:
            self._write(taken)
        return Launched(
            [Value(dict.fromkeys(self.local_of(i), _OBJECT)) for i in range(self.asked.results)],
            None,
        )

    def _start(self) -> None:
        self._profiler.start(self)
        if self.asked.seconds:
            self._timer = threading.Timer(self.asked.seconds, self._profiler.pause, (self,))
            self._timer.daemon = True
            self._timer.start()

    def _write(self, taken: bytes) -> None:
        if self._timer is not None:
            self._timer.cancel()
        folder = f"{self.asked.folder.rstrip('/')}/plugins/profile/{self.asked.session}"
        storage.write_file(folder, self._profiler.file, taken)

    def close(self) -> None:
        """Who has let go of the program will not ask for its trace."""
        if self._timer is not None:
            self._timer.cancel()
        self._profiler.stop(self)
