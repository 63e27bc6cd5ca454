"""The apply loop: takes commands in the order of the log and applies them, one after another.

It never waits for a device, only where `Waits` allows it. What takes long runs beside it:
compiling, answering `Fetch` and `Await`, moving shards over host memory. Failures become
values and reports; none ends the loop.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import msgspec

from polypath import messages as m
from polypath.types import Code, ExecutableId, Failure, ValueId
from polypath.worker import host, protos, snapshot
from polypath.worker.config import WorkerConfig
from polypath.worker.executors.base import Executor, Program, Source
from polypath.worker.failures import DELETED, WorkerFailure, failure_of
from polypath.worker.peers import PeerLink, PeerPost
from polypath.worker.store import Shard, Store, Value
from polypath.worker.transfers import Transfers
from polypath.worker.waits import Pending, Waits

_log = logging.getLogger(__name__)


class Channel(Protocol):
    """The transport, as seen by a worker."""

    @property
    def peers(self) -> PeerLink: ...

    def receive(self) -> m.Command:
        """The next command; waits for it."""
        ...

    def send(self, report: m.Report) -> None:
        """Send without waiting, from any thread."""
        ...


class Worker:
    """One host's part of its island."""

    def __init__(self, config: WorkerConfig, channel: Channel, executor: Executor, waits: Waits) -> None:
        self._config = config
        self._host = config.host
        self._channel = channel
        self._executor = executor
        self._waits = waits
        self._store = Store()
        self._programs: dict[ExecutableId, Program] = {}
        self._sources: dict[ExecutableId, Source] = {}
        self._post = PeerPost(channel.peers)
        self._transfers = Transfers(executor, self._store, self._post, waits)
        self._local = {device.id for device in executor.devices}
        self._outbox = host.Outbox(config.shared_dir)
        self._compilers = ThreadPoolExecutor(max(2, os.cpu_count() or 2), "compile")
        self._answers = ThreadPoolExecutor(32, "answer")
        self._lock = threading.Lock()
        self._handlers: dict[type[m.Command], Callable[[Any], None]] = {
            m.Execute: self._execute,
            m.Put: self._making(self._put),
            m.Rebind: self._rebind,
            m.Copy: self._making(self._transfers.copy),
            m.Reshard: self._making(self._transfers.reshard),
            m.Bitcast: self._making(self._transfers.bitcast),
            m.Delete: self._delete,
            m.Forget: lambda command: self._store.forget(command.values),
            m.Compile: self._compile,
            m.Unload: self._unload,
            m.Fetch: self._fetch,
            m.Await: self._await,
            m.CostAnalysis: self._cost_analysis,
            m.ProgramText: self._program_text,
            m.DefaultLayout: self._default_layout,
            m.Peers: lambda command: self._post.connect(command.peers),
        }

    def run(self) -> None:
        """Join, and apply commands until one ends the worker."""
        self._join()
        while True:
            command = self._channel.receive()
            if isinstance(command, m.Shutdown):
                return
            if isinstance(command, m.Snapshot):
                self._leave(command)
                return
            self.apply(command)

    def apply(self, command: m.Command) -> None:
        """Apply one command of those that do not end the worker."""
        self._handlers[type(command)](command)

    def cancel(self, reason: str) -> None:
        """End every wait of the apply loop; from any thread."""
        self._waits.cancel(reason)

    # --- Values

    def _fail(self, values: Iterable[ValueId], failure: Failure, *, stranded: bool = False) -> None:
        values = tuple(values)
        self._store.fail(values, failure)
        self._channel.send(m.Failed(self._host, values, failure, stranded))

    def _making(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        def handle(command: Any) -> None:
            try:
                handler(command)
            except Exception as error:
                self._fail((command.out,), failure_of(error))

        return handle

    def _put(self, command: m.Put) -> None:
        shards: dict[int, Shard] = {}
        layout = None if command.layout is None else protos.minor_to_major(command.layout)
        for buffer in command.buffers:
            mine = [device for device in buffer.devices if device in self._local]
            if not mine:
                continue
            if command.dtype in host.OPAQUE:
                data = bytes(host.read(buffer.data))
                shards.update(dict.fromkeys(mine, data))
                continue
            array = host.array_of(buffer, command.dtype)
            for device in mine:
                shards[device] = self._executor.put(array, device, command.memory_kind, layout)
        self._store.set(command.out, Value(shards))

    def _rebind(self, command: m.Rebind) -> None:
        for out in command.outs:
            try:
                shards = {
                    device: self._store.get(value).peek(device) for value, device in out.shards if device in self._local
                }
            except WorkerFailure as error:
                self._fail((out.out,), error.failure)
            else:
                self._store.set(out.out, Value(shards))

    def _delete(self, command: m.Delete) -> None:
        for name in command.values:
            try:
                value = self._store.get(name)
            except WorkerFailure:
                continue  # What failed or is gone has no buffers.
            for piece in _pieces(value):
                if not isinstance(piece, bytes | Pending):
                    self._executor.delete(piece)
            self._store.mark_deleted(name)

    # --- Programs

    def _execute(self, command: m.Execute) -> None:
        program = self._programs.get(command.executable)
        store = self._store
        try:
            if program is None:
                raise WorkerFailure(Code.NOT_FOUND, f"Executable {command.executable} is not on this worker.")
            get = store.get
            outs = self._executor.execute(program, [get(name) for name in command.args], command.kept, command.launch)
            if len(outs) != len(command.outs):
                raise WorkerFailure(
                    Code.INTERNAL, f"The program gave {len(outs)} results where {len(command.outs)} are named."
                )
        except Exception as error:
            spans = program is not None and len(program.place.local) < len(program.place.devices)
            self._fail(command.outs, failure_of(error), stranded=spans)
            return
        for index in program.info.donated:
            if index not in command.kept:
                store.mark_deleted(command.args[index])
        for name, out in zip(command.outs, outs, strict=True):
            store.set(name, out)

    def _compile(self, command: m.Compile) -> None:
        if not self._local.intersection(command.devices):
            return
        source = Source(command.program, command.options, command.devices)
        self._sources[command.executable] = source
        self._compilers.submit(self._compile_now, command.executable, source)

    def _compile_now(self, name: ExecutableId, source: Source) -> None:
        started = time.perf_counter()
        try:
            program = self._executor.compile(source)
        except Exception as error:
            with self._lock:
                self._sources.pop(name, None)
            result = failure_of(error)
        else:
            result = program.info
            with self._lock:
                if self._sources.get(name) is source:  # else it was unloaded meanwhile
                    self._programs[name] = program
        self._channel.send(m.Compiled(self._host, name, result, time.perf_counter() - started))

    def _unload(self, command: m.Unload) -> None:
        with self._lock:
            self._sources.pop(command.executable, None)
            self._programs.pop(command.executable, None)

    # --- Questions

    def _fetch(self, command: m.Fetch) -> None:
        try:
            shard = self._store.get(command.value).peek(command.device)
            if not isinstance(shard, bytes | Pending):
                if self._executor.is_deleted(shard):
                    raise WorkerFailure(DELETED.code, DELETED.message)
                if not self._is_cheap(shard):
                    # Later commands may donate or delete it before the thread gets to it.
                    shard = self._executor.hold(shard)
                    self._answers.submit(self._send_fetched, command, shard)
                    return
            elif isinstance(shard, Pending):
                self._answers.submit(self._send_fetched, command, shard)
                return
        except Exception as error:
            self._channel.send(m.Fetched(self._host, command.request, failure_of(error)))
            return
        self._send_fetched(command, shard)

    def _is_cheap(self, shard: Shard) -> bool:
        return self._executor.is_ready(shard) and shard_bytes(self._executor, shard) <= host.INLINE_BYTES

    def _send_fetched(self, command: m.Fetch, shard: Shard | Pending) -> None:
        try:
            if isinstance(shard, Pending):
                shard = shard.wait()
            if isinstance(shard, bytes):
                result = self._outbox.pack(shard)
            else:
                result = self._outbox.pack(host.strided(self._executor.fetch(shard), command.strides))
        except Exception as error:
            result = failure_of(error)
        self._channel.send(m.Fetched(self._host, command.request, result))

    def _await(self, command: m.Await) -> None:
        try:
            pieces = [piece for name in command.values for piece in _pieces(self._store.get(name))]
            if any(not isinstance(p, bytes | Pending) and self._executor.is_deleted(p) for p in pieces):
                raise WorkerFailure(DELETED.code, DELETED.message)
        except WorkerFailure as error:
            self._channel.send(m.Ready(self._host, command.request, error.failure))
            return
        if all(self._is_ready(piece) for piece in pieces):
            self._send_ready(command.request, pieces)
        else:
            self._answers.submit(self._send_ready, command.request, pieces)

    def _is_ready(self, piece: Shard | Pending) -> bool:
        if isinstance(piece, Pending):
            return piece.done
        return isinstance(piece, bytes) or self._executor.is_ready(piece)

    def _send_ready(self, request: int, pieces: list[Shard | Pending]) -> None:
        failure = None
        for piece in pieces:
            try:
                self._wait(piece)
            except Exception as error:
                failure = failure_of(error)
                break
        self._channel.send(m.Ready(self._host, request, failure))

    def _wait(self, piece: Shard | Pending) -> None:
        if isinstance(piece, Pending):
            piece = piece.wait()
        if isinstance(piece, bytes):
            return
        try:
            self._executor.wait(piece)
        except Exception:
            # Donated or deleted since it was asked about: nobody can see it fail any more.
            if not self._executor.is_deleted(piece):
                raise

    def _answering(self, request: int, answer: Callable[[], bytes]) -> None:
        try:
            result = m.Inline(answer())
        except Exception as error:
            result = failure_of(error)
        self._channel.send(m.Answered(self._host, request, result))

    def _program(self, name: ExecutableId) -> Program:
        if name not in self._programs:
            raise WorkerFailure(Code.NOT_FOUND, f"Executable {name} is not on this worker.")
        return self._programs[name]

    def _cost_analysis(self, command: m.CostAnalysis) -> None:
        def answer() -> bytes:
            return msgspec.msgpack.encode(self._executor.cost_analysis(self._program(command.executable)))

        self._answers.submit(self._answering, command.request, answer)

    def _program_text(self, command: m.ProgramText) -> None:
        def answer() -> bytes:
            return self._executor.text(self._program(command.executable)).encode()

        self._answers.submit(self._answering, command.request, answer)

    def _default_layout(self, command: m.DefaultLayout) -> None:
        def answer() -> bytes:
            try:
                return self._executor.default_layout(command.dtype, command.shape, command.device, command.memory_kind)
            except Exception as error:
                # A client cannot live with an error here; row-major is what every platform has.
                _log.info("No default layout for %s%s: %s", command.dtype, command.shape, error)
                return protos.layout(tuple(reversed(range(len(command.shape)))))

        self._answering(command.request, answer)

    # --- Beginning and end

    def _join(self) -> None:
        if self._config.snapshot:
            self._sources = snapshot.load(Path(self._config.snapshot), self._store, self._executor)
            loading: dict[ExecutableId, Future[Program]] = {
                name: self._compilers.submit(self._executor.compile, source) for name, source in self._sources.items()
            }
            for name, program in loading.items():
                self._programs[name] = program.result()
        devices = self._executor.devices
        peer = msgspec.structs.replace(self._channel.peers.me, devices=tuple(device.id for device in devices))
        self._channel.send(
            m.Joined(
                host=self._host,
                pid=os.getpid(),
                platform=self._executor.platform,
                devices=devices,
                peer=peer,
                values=tuple(name for name, _ in self._store.items()),
                executables=tuple(self._programs),
            )
        )

    def _leave(self, command: m.Snapshot) -> None:
        done = threading.Event()
        values = list(self._store.items())

        def follow() -> None:
            for _, value in values:
                for piece in () if isinstance(value, Failure) else _pieces(value):
                    try:
                        self._wait(piece)
                    except Exception as error:
                        _log.debug("A value of the snapshot failed: %s", error)
            done.set()
            self._waits.notify()

        threading.Thread(target=follow, name="snapshot", daemon=True).start()
        self._waits.wait_at_most(command.patience, done.is_set)
        ready = [
            (name, value)
            for name, value in values
            if isinstance(value, Failure) or all(map(self._is_ready, _pieces(value)))
        ]
        with self._lock:
            sources = {name: self._sources[name] for name in self._programs}
        try:
            written = snapshot.save(Path(command.path), ready, sources, self._executor)
        except OSError as error:
            _log.warning("The snapshot %s cannot be written (%s): its values are lost.", command.path, error)
            written, sources = (), {}
        self._channel.send(m.Left(self._host, written, tuple(sources)))


def _pieces(value: Value) -> list[Shard | Pending]:
    """What a value's memory consists of: its whole, or its shards."""
    return [value.whole] if value.whole is not None else list(value.shards.values())


def shard_bytes(executor: Executor, shard: Shard) -> int:
    """The size of a shard on the host."""
    dtype, shape = executor.shard_type(shard)
    size = host.numpy_dtype(dtype).itemsize
    for each in shape:
        size *= each
    return size
