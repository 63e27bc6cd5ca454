"""Every message between the controller and the workers, and their one codec.

Commands go to the workers of an island in the order of its log; each worker applies the ones
it gets in that order. Every command is replayable: self-contained, deterministic, naming
what it reads and what it makes by id. One encoding serves all workers that take part: a
worker does the share of its own devices.

Reports come back from one worker each, or from several that answer a question alike.
"""

from __future__ import annotations

import struct
from typing import Final, Literal, TypeVar

import msgspec

from polypath.types import (
    ArraySpec,
    Device,
    DeviceId,
    ExecutableId,
    Failure,
    HostId,
    Platform,
    ProgramInfo,
    ProgramKind,
    RequestId,
    Struct,
    ValueId,
)

_T = TypeVar("_T")


class Command(Struct, frozen=True, tag_field="t"):
    """Controller to workers."""


class Report(Struct, frozen=True, tag_field="t"):
    """Worker to controller."""


# --- Host memory ------------------------------------------------------------------------------


MOST_INLINE: Final = (1 << 31) - (1 << 16)
"""The most bytes of a host buffer or of a fetched shard in a message, which has to fit into a frame."""


class HostBuffer(Struct, frozen=True):
    """Bytes of one shard (or of several alike) as the client's memory held them."""

    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    """In bytes; None for dense, row-major. May be zero or negative."""
    devices: tuple[DeviceId, ...]
    """The devices that each get a copy."""
    data: memoryview
    """At most `MOST_INLINE` bytes. It comes last, so that the bytes of a large buffer are the end of its message."""


class Elements(Struct, frozen=True):
    """A small array, whole: what host callbacks take and give."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes
    """Dense, row-major."""
    writeable: bool = False
    """Whether a function that is called in place may change it."""
    same_as: int = -1
    """The place of an earlier one that it shares its memory with; it then has no data of its own."""


CALLBACKS_OPTION: Final = "polypath_callbacks"
"""The compile option in which our client says, as JSON, what `Callbacks` a program has."""
PROGRAM_OPTION: Final = "polypath_program"
"""The compile option with a program, in base64, that takes the place of the request's."""


class Results(Struct, frozen=True, tag="R"):
    """What a function gave."""

    values: tuple[Elements | None, ...]
    """None for a result without elements (a token), and for an argument that was not to be changed."""


class Answer(Struct, frozen=True):
    """What a client says of a `Called` that it was handed."""

    host: HostId
    call: int
    result: Results | Failure


class Callbacks(Struct, frozen=True):
    """The Python functions of a client that a program calls, by their place in it."""

    client: str
    """The name of the stream on which the client serves them."""
    program: int
    """The client's number for the program."""
    count: int
    answers_compilers: bool = False
    """Whether there is one more, at place `count`, which takes a `CompilerQuestion` and gives a `CompilerAnswer`."""


class ShardedShape(Struct, frozen=True):
    """What XLA says of an operand or a result of a custom call."""

    shape: str
    """As in HLO."""
    sharding: bytes | None
    """A serialized `OpSharding`."""


QuestionKind = Literal["propagate", "partition", "infer", "inspect"]


class CompilerQuestion(Struct, frozen=True):
    """What XLA asks, while it partitions a program, of the client's functions for a custom call."""

    kind: QuestionKind
    key: bytes
    """By what JAX knows the functions: the custom call's configuration."""
    number: int
    """The place among a compilation's questions. All hosts that compile a program ask the same ones."""
    operands: tuple[ShardedShape, ...]
    result: ShardedShape | None
    version: str
    """The newest StableHLO that may be answered."""


class CompilerAnswer(Struct, frozen=True):
    """What the client's function gave."""

    module: bytes | None = None
    """Portable StableHLO of what each device computes."""
    operands: tuple[bytes, ...] = ()
    result: bytes | None = None
    """Serialized `OpSharding`s, in the tiled form."""


# --- Commands that make values ----------------------------------------------------------------


class Put(Command, frozen=True):
    """Add shards to `out`, which the first of these commands makes. Each worker gets buffers for its devices only."""

    out: ValueId
    dtype: str
    shape: tuple[int, ...]
    memory_kind: str
    layout: bytes | None
    """A serialized XLA `LayoutProto`; None for the default."""
    buffers: tuple[HostBuffer, ...]


class Shards(Struct, frozen=True):
    """Which shard of which value stands on each device of a new value, in sharding order."""

    out: ValueId
    shards: tuple[tuple[ValueId, DeviceId], ...]


class Rebind(Command, frozen=True):
    """Make values out of shards that exist, without copying: assemble, disassemble, remap."""

    outs: tuple[Shards, ...]


class Copy(Command, frozen=True):
    """Copy whole shards from device to device; pairs between hosts go worker to worker."""

    value: ValueId
    out: ValueId
    pairs: tuple[tuple[DeviceId, DeviceId], ...]
    """(from, to), in the order of the new sharding."""
    memory_kind: str
    donate: bool


class Piece(Struct, frozen=True):
    """A box of elements that moves from one shard into another."""

    source: DeviceId
    source_start: tuple[int, ...]
    target_start: tuple[int, ...]
    shape: tuple[int, ...]


class Target(Struct, frozen=True):
    """One shard of a resharded value and the boxes it is put together from."""

    device: DeviceId
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]


class Reshard(Command, frozen=True):
    """Cut a value anew, worker to worker where hosts differ."""

    value: ValueId
    out: ValueId
    dtype: str
    targets: tuple[Target, ...]
    memory_kind: str
    donate: bool


class Bitcast(Command, frozen=True):
    """Read a value's bytes as another type of the same shard size."""

    value: ValueId
    out: ValueId
    dtype: str
    shard_shapes: tuple[tuple[int, ...], ...]
    """One shape for all shards, or one per device of `devices`."""
    devices: tuple[DeviceId, ...]
    donate: bool


class Execute(Command, frozen=True):
    """Run a program. Every worker with a device of the program runs its share."""

    executable: ExecutableId
    args: tuple[ValueId, ...]
    outs: tuple[ValueId, ...]
    kept: tuple[int, ...]
    """Indices of arguments that must not be donated although the program would."""
    launch: int
    status: ValueId = 0
    """A value without elements that stands for the execution's end; 0 where nobody asks."""
    stream: int = 0
    """The client's thread. Programs that wait for something outside run one after another within a stream."""


# --- Commands that end values -----------------------------------------------------------------


class Delete(Command, frozen=True):
    """Free the buffers now, also where other values share them (`Array.delete()`)."""

    values: tuple[ValueId, ...]


class Forget(Command, frozen=True):
    """Drop values that nobody names any more."""

    values: tuple[ValueId, ...]


# --- Programs ---------------------------------------------------------------------------------


class Compile(Command, frozen=True):
    """Compile for `devices`; every worker with one of them answers `Compiled`.

    Runs beside the log: what uses the executable is sent only after the answers.
    """

    executable: ExecutableId
    program: bytes
    """For XLA portable StableHLO, as the client sent it; for Python a `PythonProgram`."""
    options: bytes
    """For XLA a serialized `CompileOptionsProto` whose device assignment has cluster-wide ids."""
    devices: tuple[DeviceId, ...]
    kind: ProgramKind = "xla"
    callbacks: Callbacks | None = None


class PythonProgram(Struct, frozen=True):
    """`Compile.program` of kind `python`: a function that runs beside the devices of its arguments."""

    name: str
    function: bytes
    """What JAX's colocated Python pickled: the function, and the trees and types of its arguments and results."""
    inputs: tuple[ArraySpec, ...]
    outputs: tuple[ArraySpec, ...]


class Unload(Command, frozen=True):
    """Drop an executable."""

    executable: ExecutableId


# --- Questions --------------------------------------------------------------------------------


class Fetch(Command, frozen=True):
    """Send one shard's bytes as `Fetched`, laid out by `strides` (None: dense, row-major)."""

    request: RequestId
    value: ValueId
    device: DeviceId
    strides: tuple[int, ...] | None


class Await(Command, frozen=True):
    """Answer `Ready` once all values (the shards on this worker) are computed or failed."""

    request: RequestId
    values: tuple[ValueId, ...]


class CostAnalysis(Command, frozen=True):
    """Answer `Answered` with a msgpack dict of name to float."""

    request: RequestId
    executable: ExecutableId


class ProgramText(Command, frozen=True):
    """Answer `Answered` with the optimized HLO as UTF-8."""

    request: RequestId
    executable: ExecutableId


class DefaultLayout(Command, frozen=True):
    """Answer `Answered` with a serialized XLA `LayoutProto`."""

    request: RequestId
    dtype: str
    shape: tuple[int, ...]
    """Of one shard."""
    device: DeviceId
    memory_kind: str


class MemoryStats(Command, frozen=True):
    """Answer `Answered` with a msgpack dict of name to int (bytes, counts), or None where the platform has none."""

    request: RequestId
    device: DeviceId


class Holdings(Command, frozen=True):
    """Answer `Answered` with a msgpack dict of name to int: how much of what the worker holds."""

    request: RequestId


# --- Over clients' links ----------------------------------------------------------------------


class Computed(Struct, frozen=True, tag="C"):
    """That all values (the shards on this worker) are computed."""

    values: tuple[ValueId, ...]


class SmallShard(Struct, frozen=True, tag="S"):
    """The elements of one shard, of at most `MOST_ELEMENTS` bytes; with the end."""

    value: ValueId
    device: DeviceId


class ShardAddress(Struct, frozen=True, tag="A"):
    """Where a shard is in the worker's memory, as 8 bytes, little-endian; with the end."""

    value: ValueId
    device: DeviceId


class WholeArray(Struct, frozen=True, tag="W"):
    """Shards of one array."""

    value: ValueId
    boxes: tuple[tuple[DeviceId, tuple[int, ...]], ...]
    """Where in the array each shard begins. Each worker sends those of its own devices."""


class Part(Struct, frozen=True, array_like=True, gc=False):
    """A shard among those of `ArraysTogether`."""

    index: int
    """The client's, for this shard."""
    value: ValueId
    device: DeviceId
    dtype: str
    size: int
    """Elements."""


class ArraysTogether(Struct, frozen=True, tag="T"):
    """Shards of several small arrays, as one array of bytes.

    First come the indices of all parts, as 32-bit numbers in the order of `parts`, then their elements in that order.
    Parts of one host follow each other, so each worker sends two pieces.
    """

    parts: tuple[Part, ...]


Delivery = Computed | SmallShard | ShardAddress | WholeArray | ArraysTogether


class Deliver(Command, frozen=True):
    """Send a client, on its link to this worker, what it asked for, and then that this is all."""

    session: str
    """The name by which the client's links are known."""
    number: int
    """The client's, for the request."""
    of: int
    """So many workers do."""
    what: Delivery


MOST_ELEMENTS: Final = 4000
"""Bytes that may come with the end of a request."""


class Take(Command, frozen=True):
    """Make `out` of what a client sends on its link to this worker, and tell it once that is done.

    `session`, `number` and `of` are as in `Deliver`.
    """

    session: str
    number: int
    of: int
    out: ValueId
    dtype: str
    shards: tuple[tuple[tuple[DeviceId, ...], tuple[int, ...]], ...]
    """The devices that get the same elements, and the shape of those. A worker takes them once for all of its own."""
    memory_kind: str


# --- Host callbacks ---------------------------------------------------------------------------


class Return(Command, frozen=True):
    """The answer to `Called`. A worker takes it also while it waits, before what came earlier."""

    call: int
    result: Results | Failure


# --- The worker's life ------------------------------------------------------------------------


class Peer(Struct, frozen=True):
    """Where a worker takes shards from other workers."""

    host: HostId
    address: str
    """Empty while it is away: what is for it waits at its sender."""
    devices: tuple[DeviceId, ...] = ()
    """Its devices: who sends a shard to one of them sends it to this worker."""


class Peers(Command, frozen=True):
    """Where these take shards from now on: told to those that are about to send them some, and at changes."""

    peers: tuple[Peer, ...]


class Unsent(Command, frozen=True):
    """Shards that `host` has not sent yet will not come, if their values have ids below `before`; they fail.

    The host's process ended, or its stream broke for good. A worker takes this also while it waits, before commands
    that came earlier.
    """

    host: HostId
    devices: tuple[DeviceId, ...]
    """The host's devices, from which the shards would come."""
    before: ValueId
    failure: Failure


class Snapshot(Command, frozen=True):
    """Write the store into `path` (a new folder) and end with `Left`.

    The worker is started again and loads the snapshot, so that its island can form a new
    group after another of its hosts was lost. What is not computed within `patience`
    seconds is left out.
    """

    path: str
    patience: float


AnyCommand = (
    Put | Rebind | Copy | Reshard | Bitcast | Execute | Delete | Forget | Compile | Unload
    | Fetch | Await | CostAnalysis | ProgramText | DefaultLayout | MemoryStats | Holdings
    | Deliver | Take | Return | Peers | Unsent | Snapshot
)  # fmt: skip


OutOfTurn = Return | Unsent
"""Commands that a worker takes also while it waits, since they may end the wait."""


# --- Reports ----------------------------------------------------------------------------------


class Joined(Report, frozen=True):
    """The first report: this worker's devices are up and its group is formed."""

    host: HostId
    pid: int
    platform: Platform
    devices: tuple[Device, ...]
    peer: Peer
    link: str
    """Where it takes clients' links: `unix:PATH` or `tcp://HOST:PORT`."""
    values: tuple[ValueId, ...]
    """What it loaded from a snapshot."""


class Compiled(Report, frozen=True):
    hosts: tuple[HostId, ...]
    """Who reports it: a worker for itself, or a relay for several that say the same."""
    executable: ExecutableId
    result: ProgramInfo | Failure
    compiled: bool = False
    """Whether a compiler ran for it; False also for what none sees."""


class Ready(Report, frozen=True):
    hosts: tuple[HostId, ...]
    """As in `Compiled`."""
    request: RequestId
    failure: Failure | None


class Inline(Struct, frozen=True, tag="I"):
    data: bytes


class Memory(Struct, frozen=True, tag="M"):
    """The bytes of a shard, which are not copied when the message is read."""

    data: memoryview


class Fetched(Report, frozen=True):
    host: HostId
    request: RequestId
    result: Memory | Failure


class Answered(Report, frozen=True):
    host: HostId
    request: RequestId
    result: Inline | Failure


class Failed(Report, frozen=True):
    """Values of this worker that will never be: the failure reaches whatever needs them.

    `stranded` is set when the hosts of the island can run nothing together any more, as when others wait for this
    one's part of a program that it could not start, or one has left a program: the island has to be formed anew.
    """

    host: HostId
    values: tuple[ValueId, ...]
    failure: Failure
    stranded: bool


class Undelivered(Report, frozen=True):
    """This worker could not send shards to another, `to`: those that it had queued are dropped."""

    host: HostId
    to: Peer
    reason: str


class Called(Report, frozen=True):
    """A program on this worker calls a function of its client; `Return` answers."""

    host: HostId
    call: int
    """Unique for this host, over its restarts too."""
    callbacks: Callbacks
    index: int
    args: tuple[Elements | None, ...]
    """None for one without elements: a token."""
    in_place: bool
    """The function changes its writeable arguments instead of returning results, one of which each then has."""


class Quiet(Report, frozen=True):
    """Nothing of an unloaded program that calls functions of its client is under way on this worker any more."""

    host: HostId
    executable: ExecutableId


class Released(Struct, frozen=True, tag_field="t"):
    """Head to client: nothing will call these functions any more."""

    callbacks: Callbacks


class Left(Report, frozen=True):
    """The last report of a worker that was told to end."""

    host: HostId
    values: tuple[ValueId, ...]
    """What its snapshot holds."""


AnyReport = Joined | Compiled | Ready | Fetched | Answered | Failed | Undelivered | Called | Quiet | Left

_APART: Final = 1 << 16
"""Bytes of a buffer from which on it is not copied into its message."""
_NOTHING: Final = memoryview(b"")
_EMPTY: Final = b"\xc4\x00"
"""MessagePack's for no bytes."""
_BYTES: Final = struct.Struct(">BI")
_BYTES_32: Final = 0xC6
"""MessagePack's for bytes whose length, which comes next, has 32 bits."""

_encoder: Final = msgspec.msgpack.Encoder()
_commands: Final = msgspec.msgpack.Decoder(AnyCommand)
_reports: Final = msgspec.msgpack.Decoder(AnyReport)
_calls: Final = msgspec.msgpack.Decoder(Called | Released)


def encode(message: Command | Report | Released | Answer) -> bytes:
    """The message as bytes."""
    return _encoder.encode(message)


def encode_apart(message: Command | Report) -> tuple[bytes, memoryview]:
    """The message as bytes in two parts: the second is the memory of its large buffer, not a copy, or is empty."""
    match message:
        case Put(buffers=(buffer,)) if len(buffer.data) >= _APART:
            empty = msgspec.structs.replace(message, buffers=(msgspec.structs.replace(buffer, data=_NOTHING),))
            data = buffer.data
        case Fetched(result=Memory(data=data)) if len(data) >= _APART:
            empty = msgspec.structs.replace(message, result=Memory(_NOTHING))
        case _:
            return encode(message), _NOTHING
    head = encode(empty)
    assert head.endswith(_EMPTY), "the buffer is the last field of its message"
    return head.removesuffix(_EMPTY) + _BYTES.pack(_BYTES_32, len(data)), data


def decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes | memoryview) -> _T:
    """What `decoder` reads in `data`.

    Raises:
        msgspec.DecodeError: it cannot, for whatever reason.
    """
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:  # msgspec lets these two through as they are.
        raise msgspec.DecodeError(f"Message cannot be read: {error}") from error


def decode_call(data: bytes | memoryview) -> Called | Released:
    """What the head tells a client that serves callbacks.

    Raises:
        msgspec.DecodeError: `data` is nothing of that.
    """
    return decode(_calls, data)


def decode_command(data: bytes | memoryview) -> AnyCommand:
    """The command in `data`.

    Raises:
        msgspec.DecodeError: `data` is no command.
    """
    return decode(_commands, data)


def decode_report(data: bytes | memoryview) -> AnyReport:
    """The report in `data`.

    Raises:
        msgspec.DecodeError: `data` is no report.
    """
    return decode(_reports, data)
