"""The programs of one worker: compiled beside the log, and looked up by what runs them or asks about them.

Owns the threads that compile. A program may be asked for before it is compiled: after a loss the
controller has it loaded again just before it is run, and whoever asks for it waits.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import msgspec

from polypath import messages as m
from polypath.types import Code, DeviceId, ExecutableId, Failure, HostId, ProgramKind
from polypath.worker.executors.base import Program, Runner, Source
from polypath.worker.failures import FailedValue, WorkerFailure, failure_of
from polypath.worker.lanes import Lane, Lanes
from polypath.worker.waits import Waits

_TRIM_EVERY: Final = 256
"""Programs that end before the allocator gives back what it keeps of their memory, which takes milliseconds."""


class _Compilation(msgspec.Struct, eq=False):
    """What is known of a program from `Compile` to `Unload`, beside the program itself."""

    calls_back: bool
    spans: bool
    """Whether other hosts run a part of it."""
    done: bool = False
    failure: Failure | None = None


class Programs:
    """Compiles programs, and ends them."""

    def __init__(
        self,
        host: HostId,
        local: set[DeviceId],
        runners: Mapping[ProgramKind, Runner],
        send: Callable[[m.Report], None],
        lanes: Lanes,
        waits: Waits,
        compilers: ThreadPoolExecutor | None = None,
    ) -> None:
        self.loaded: Final[dict[ExecutableId, Program]] = {}
        self._host = host
        self._local = local
        self._runners = runners
        self._send = send
        self._lanes = lanes
        self._farewells = Lane("farewells")
        self._waits = waits
        self._compilers = compilers or ThreadPoolExecutor(max(2, os.cpu_count() or 2), "compile")
        self._compilations: dict[ExecutableId, _Compilation] = {}
        self._lock = threading.Lock()
        self._ended = 0
        self._alone = compilers is None
        """Whether the process has no other worker."""

    def get(self, name: ExecutableId) -> Program:
        """The program, once it is compiled.

        Raises:
            WorkerFailure: it is not on this worker, or could not be compiled.
        """
        program = self.loaded.get(name)
        if program is not None:
            return program
        compilation = self._compilations.get(name)
        if compilation is not None:
            self._waits.wait(lambda: compilation.done)
            program = self.loaded.get(name)
            if program is not None:
                return program
            if compilation.failure is not None:
                raise FailedValue(compilation.failure)
        raise WorkerFailure(Code.NOT_FOUND, f"Executable {name} is not on this worker.")

    def spans(self, name: ExecutableId) -> bool:
        """Whether other hosts run a part of a program, which wait for this host's."""
        compilation = self._compilations.get(name)
        return compilation is not None and compilation.spans

    def compile(self, command: m.Compile) -> None:
        """Compile on a thread, and report how it went."""
        if not self._local.intersection(command.devices):
            return
        spans = command.kind == "xla" and not self._local.issuperset(command.devices)
        compilation = _Compilation(command.callbacks is not None, spans)
        self._compilations[command.executable] = compilation
        source = Source(command.program, command.options, command.devices, command.kind, command.callbacks)
        self._compilers.submit(self._compile_now, command.executable, compilation, source)

    def _compile_now(self, name: ExecutableId, compilation: _Compilation, source: Source) -> None:
        compiled = False
        try:
            program = self._runner(source.kind).compile(source)
        except Exception as error:
            result = compilation.failure = failure_of(error)
        else:
            result, compiled = program.info, program.compiled
            with self._lock:
                if self._compilations.get(name) is compilation:  # else it was unloaded meanwhile
                    self.loaded[name] = program
        compilation.done = True
        self._waits.notify()
        self._send(m.Compiled((self._host,), name, result, compiled))

    def _runner(self, kind: ProgramKind) -> Runner:
        runner = self._runners.get(kind)
        if runner is None:
            raise WorkerFailure(Code.UNIMPLEMENTED, f"This worker runs no programs of kind {kind}.")
        return runner

    def unload(self, name: ExecutableId) -> None:
        """Drop a program; report `Quiet` once nothing of one that calls its client is under way."""
        with self._lock:
            compilation = self._compilations.pop(name, None)
            program = self.loaded.pop(name, None)
        if program is not None and program.kind == "python":
            self._lanes.after_all(program.close, user_code=True)
        elif program is not None and program.kind == "plugin":
            self._lanes["plugin"].submit(program.close)
        elif compilation is not None and compilation.calls_back:
            # After what is to be started still; waiting for the ends of all must hold up nothing else.
            quiet = partial(self._quiet, name, program)
            self._lanes.after_all(partial(self._farewells.submit, quiet))
        self._ended += compilation is not None
        if self._ended >= _TRIM_EVERY and self._alone:
            self._ended = 0
            self._farewells.submit(_trim)

    def _quiet(self, name: ExecutableId, program: Program | None) -> None:
        if program is not None:
            program.close()
        self._send(m.Quiet(self._host, name))


def _trim() -> None:
    """Compiling leaves glibc's allocator with much free memory in small pieces, which it keeps by itself."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)  # Other C libraries have none.
