"""What the controller is told, and what it wants done.

`Controller.handle(event)` takes one event and returns effects. Events are what a client asks
(each names its session and the `op` to reply to), the workers' reports
(`polypath.messages.Report`), and what the launcher saw of the workers' processes.
"""

from __future__ import annotations

import msgspec

from polypath.link.protocol import HostAddress
from polypath.messages import AnyReport, Callbacks, Called, Command, HostBuffer, Results
from polypath.plugins import Wanted
from polypath.types import (
    ArraySpec,
    DeviceId,
    Failure,
    HostId,
    IslandId,
    ProgramInfo,
    ProgramKind,
    SessionId,
    Sharding,
)

Handle = int
"""A client's name for an array, an executable or a future; 64 bits, unique in its session."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something that happened."""


class Request(Event, frozen=True):
    """Something a client asks; `op` is what the reply names."""

    session: SessionId
    op: int


# --- Sessions ---------------------------------------------------------------------------------


class Open(Event, frozen=True):
    """A client connected."""

    session: SessionId
    client: str
    """Who it is, for people: process id and such."""
    link: str = ""
    """The name by which its links are known; empty for a client that has none."""


class Close(Event, frozen=True):
    """A client is gone, in order or not: all it had is freed."""

    session: SessionId


# --- Arrays -----------------------------------------------------------------------------------


class HostArray(msgspec.Struct, frozen=True):
    """One array to make from host memory. Buffers that hold the same bytes appear once."""

    handle: Handle
    spec: ArraySpec
    layout: bytes | None
    buffers: tuple[HostBuffer, ...]


class Put(Request, frozen=True):
    """Make arrays from host memory. Reply: None."""

    arrays: tuple[HostArray, ...]


class MakeErrors(Request, frozen=True):
    """Make arrays that are an error. Reply: None."""

    failure: Failure
    specs: tuple[ArraySpec, ...]
    results: tuple[Handle, ...]


class Assemble(Request, frozen=True):
    """Make one array of single-device arrays. Reply: None."""

    spec: ArraySpec
    parts: tuple[Handle, ...]
    result: Handle


class Disassemble(Request, frozen=True):
    """Make a single-device array of each shard. Reply: None."""

    array: Handle
    results: tuple[Handle, ...]


class FullyReplicatedShard(Request, frozen=True):
    """Make a single-device array of the first shard. Reply: None."""

    array: Handle
    result: Handle


class Interval(msgspec.Struct, frozen=True):
    """Shard indices start, start+step, ... below end."""

    start: int
    end: int
    step: int


class Mapping(msgspec.Struct, frozen=True):
    """Shards of input array `source` at `from_` become those of output `target` at `to`."""

    source: int
    target: int
    from_: tuple[Interval, ...]
    to: tuple[Interval, ...]


class Remap(Request, frozen=True):
    """Make arrays out of the shards of others. Reply: None."""

    arrays: tuple[Handle, ...]
    specs: tuple[ArraySpec, ...]
    mappings: tuple[Mapping, ...]
    results: tuple[Handle, ...]
    donate: bool


class Copy(Request, frozen=True):
    """Copy arrays to other devices or another memory. Reply: None."""

    arrays: tuple[Handle, ...]
    results: tuple[Handle, ...]
    devices: tuple[DeviceId, ...] | None
    """None: the devices each array is on."""
    memory_kind: str | None
    """None: as it is; empty: the devices' default."""
    always: bool
    """Copy even where nothing would change (`ALWAYS_COPY`); else such a copy is an alias."""
    donate: bool


class Reshard(Request, frozen=True):
    """Cut arrays anew. Reply: None."""

    arrays: tuple[Handle, ...]
    specs: tuple[ArraySpec, ...]
    results: tuple[Handle, ...]
    donate: bool


class Bitcast(Request, frozen=True):
    """Read arrays as other types. Reply: None."""

    arrays: tuple[Handle, ...]
    specs: tuple[ArraySpec, ...]
    results: tuple[Handle, ...]
    donate: bool


class Fetch(Request, frozen=True):
    """Copy a single-device (or fully replicated) array to the client. Reply: memoryview."""

    array: Handle
    strides: tuple[int, ...] | None


class CheckReady(Request, frozen=True):
    """Wait until arrays are computed. Reply: None, or the first failure."""

    arrays: tuple[Handle, ...]


class Delete(Request, frozen=True):
    """Free the arrays' buffers; the handles stay. Reply: the `Handle` of a future."""

    arrays: tuple[Handle, ...]


class IsDeleted(Request, frozen=True):
    """Reply: bool."""

    array: Handle


class Destruct(Request, frozen=True):
    """Forget handles (and free what they name). Reply: None."""

    arrays: tuple[Handle, ...]


# --- Programs ---------------------------------------------------------------------------------


class Compile(Request, frozen=True):
    """Compile on every host of `devices`. Reply: `Loaded`."""

    program: bytes
    options: bytes
    """A serialized XLA `CompileOptionsProto`."""
    devices: tuple[DeviceId, ...]
    """The device assignment in `options`, replica-major."""
    kind: ProgramKind = "xla"
    callbacks: Callbacks | None = None


class CompileReshard(Request, frozen=True):
    """A program that cuts its arguments anew: `targets` are its results. Reply: `Loaded`."""

    devices: tuple[DeviceId, ...]
    """Those of every argument, in any order."""
    targets: tuple[Sharding, ...]
    donate: bool


class CompileAttach(Request, frozen=True):
    """A program by which workers and the client send each other something over its links. Reply: `Loaded`."""

    devices: tuple[DeviceId, ...]
    """What the client is told of them; arguments may be on any."""
    what: Wanted | ArraySpec
    """What it hears of the arguments; or what it sends, which is the one result."""


class Metadata(Request, frozen=True):
    """Reply: `ProgramInfo`."""

    executable: Handle


class CostAnalysis(Request, frozen=True):
    """Reply: bytes, a msgpack dict of name to float."""

    executable: Handle


class ProgramText(Request, frozen=True):
    """Reply: bytes, UTF-8."""

    executable: Handle


class ProgramSource(Request, frozen=True, tag=True):
    """What a program of any session was compiled from. Reply: bytes, a msgpack of StableHLO and serialized options."""

    fingerprint: bytes
    """As its `ProgramInfo` has it."""
    devices: tuple[DeviceId, ...]


class Unload(Request, frozen=True):
    """Forget an executable. Reply: None."""

    executable: Handle


class Execute(Request, frozen=True):
    """Run a program. Reply: `Executed`."""

    executable: Handle
    args: tuple[Handle, ...]
    results: tuple[Handle, ...]
    """Empty the first time: the controller then makes the handles and says what they are."""
    status: Handle
    """The client's handle for the status, or 0."""
    fill_status: bool
    kept: tuple[int, ...]
    launch: int
    stream: int = 0


class ExecuteStatus(Request, frozen=True):
    """Wait for one execution; its status handle ends. Reply: None."""

    status: Handle


class CheckFuture(Request, frozen=True):
    """Wait for a future; its handle ends. Reply: None."""

    future: Handle


class DefaultLayout(Request, frozen=True):
    """Reply: bytes, a serialized XLA `LayoutProto`. Never a failure for a device that exists."""

    dtype: str
    shape: tuple[int, ...]
    device: DeviceId
    memory_kind: str


class MemoryStats(Request, frozen=True, tag=True):
    """Reply: bytes, a msgpack dict of name to int, or None where the platform has none."""

    device: DeviceId


class Holdings(Request, frozen=True, tag=True):
    """What a worker holds. Reply: bytes, a msgpack dict of name to int."""

    host: HostId


AnyRequest = (
    Put | MakeErrors | Assemble | Disassemble | FullyReplicatedShard | Remap | Copy | Reshard
    | Bitcast | Fetch | CheckReady | Delete | IsDeleted | Destruct | Compile | CompileReshard | CompileAttach
    | Metadata | CostAnalysis | ProgramText | ProgramSource | Unload | Execute | ExecuteStatus | CheckFuture
    | DefaultLayout | MemoryStats | Holdings
)  # fmt: skip


# --- Host callbacks ---------------------------------------------------------------------------


class Returned(Event, frozen=True):
    """A client's function, called by a program on `host`, came to its end."""

    host: HostId
    call: int
    result: Results | Failure


# --- Workers' processes -----------------------------------------------------------------------


class WorkerStarted(Event, frozen=True):
    """The launcher started a worker's process."""

    host: HostId
    island: IslandId
    pid: int


class WorkerLost(Event, frozen=True):
    """A worker's process ended, or cannot be reached any more."""

    host: HostId
    cause: str
    """For people: `killed by SIGKILL`, `exited with status 1`, ..."""


AnyEvent = Open | Close | AnyRequest | Returned | WorkerStarted | WorkerLost | AnyReport


# --- Replies ----------------------------------------------------------------------------------


class Loaded(msgspec.Struct, frozen=True):
    """A compiled program, ready to run."""

    executable: Handle
    info: ProgramInfo
    ready: Handle
    """A future that is already done."""


class Output(msgspec.Struct, frozen=True):
    handle: Handle
    spec: ArraySpec


class Executed(msgspec.Struct, frozen=True):
    """A program was started."""

    status: Handle
    """0 unless asked for."""
    outputs: tuple[Output, ...]
    """Empty where the client made the handles."""


Result = None | bool | int | bytes | memoryview | ProgramInfo | Loaded | Executed | Failure


# --- Effects ----------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True, gc=False):
    """Entry `sequence` of the log: `command` for these workers, after all sent before."""

    hosts: tuple[HostId, ...]
    sequence: int
    command: Command


class Reply(msgspec.Struct, frozen=True, gc=False):
    """Answer a client."""

    session: SessionId
    op: int
    result: Result


class Call(msgspec.Struct, frozen=True):
    """Call a function of a client; `Returned` follows."""

    called: Called


class Release(msgspec.Struct, frozen=True):
    """Tell a client that nothing will call these functions any more."""

    callbacks: Callbacks


class Unanswerable(msgspec.Struct, frozen=True):
    """Tell a client that no worker will answer its request: it is to ask by the stock protocol."""

    link: str
    number: int


class Located(msgspec.Struct, frozen=True):
    """Tell all clients where a host takes links from now on; nowhere while it has no address."""

    host: HostAddress


class Start(msgspec.Struct, frozen=True):
    """Start these workers (again) as one new group; `snapshots` names what they load."""

    island: IslandId
    hosts: tuple[HostId, ...]
    snapshots: dict[HostId, str]


class Stop(msgspec.Struct, frozen=True):
    """End this worker's process now; `WorkerLost` follows."""

    host: HostId


Effect = Send | Reply | Call | Release | Unanswerable | Located | Start | Stop
