"""What the controller remembers: values, executables, sessions, hosts, islands.

Plain records. Only the controller's handlers change them.
"""

from __future__ import annotations

import dataclasses
import enum

import msgspec

from polypath.controller.events import CompileReshard, Handle
from polypath.messages import Callbacks, Command, Compile, Peer
from polypath.plugins import Wanted
from polypath.types import (
    ArraySpec,
    Device,
    DeviceId,
    ExecutableId,
    Failure,
    HostId,
    IslandId,
    ProgramInfo,
    RequestId,
    SessionId,
    ValueId,
)


class Value(msgspec.Struct, eq=False, gc=False):
    """An array in the workers' stores (or only an error). Nothing that it holds leads back to it.

    `failure` is what anybody who looks at it gets; `hosts` then may still hold parts.
    """

    id: ValueId
    spec: ArraySpec
    hosts: tuple[HostId, ...]
    failure: Failure | None = None
    deleted: bool = False
    shares: tuple[ValueId, ...] | None = None
    """Of a regrouped array, the value that each shard was made with; None where all were made with this one."""


@dataclasses.dataclass(slots=True, eq=False)
class Executable:
    """A program on the workers that run it. `info` is None until all have compiled."""

    id: ExecutableId
    hosts: tuple[HostId, ...]
    source: Compile | None = None
    """What the workers compile, kept to compile it again after a loss; None for a program that runs nowhere."""
    loaded: bool = False
    """Whether its workers have it, or will have it before what is sent to them next."""
    info: ProgramInfo | None = None
    outputs: tuple[tuple[ArraySpec, tuple[HostId, ...]], ...] = ()
    """The type of each result, and where it will be."""
    failure: Failure | None = None
    does: CompileReshard | Wanted | Given | None = None
    """Of a program that runs nowhere: what it does is known to the controller alone."""


@dataclasses.dataclass(slots=True, eq=False)
class Given:
    """An array that a client sends over its links."""

    spec: ArraySpec
    shards: tuple[tuple[tuple[DeviceId, ...], tuple[int, ...]], ...]
    """The devices that get the same elements, and the shape of those."""


@dataclasses.dataclass(slots=True, eq=False)
class Unloading:
    """A program that is dropped, and the hosts that may still be running it."""

    callbacks: Callbacks
    hosts: set[HostId]


@dataclasses.dataclass(slots=True, eq=False)
class Session:
    """One client: its handles name values, executables and futures of its own."""

    id: SessionId
    client: str
    link: str = ""
    """The name by which its links are known; empty where it has none."""
    arrays: dict[Handle, Value] = dataclasses.field(default_factory=dict[Handle, Value])
    executables: dict[Handle, Executable] = dataclasses.field(default_factory=dict[Handle, Executable])
    futures: dict[Handle, Future] = dataclasses.field(default_factory=dict[Handle, "Future"])
    next_handle: Handle = 0


@dataclasses.dataclass(slots=True, eq=False)
class Future:
    """What a future handle waits for: these values; nothing if there are none."""

    values: tuple[Value, ...] = ()
    failure: Failure | None = None
    status: Value | None = None
    """Without elements and without a handle: stands for the end of an execution."""


@dataclasses.dataclass(slots=True, eq=False)
class Pending:
    """A question that workers were asked for a client (`op` of `session`)."""

    session: SessionId
    op: int
    waiting: set[HostId]
    fallback: bytes | None = None
    """The answer where a failure would not do."""


@dataclasses.dataclass(slots=True, eq=False)
class Compilation:
    """A compile under way; `infos` are the answers so far."""

    session: SessionId
    op: int
    executable: Executable
    waiting: set[HostId]
    infos: dict[HostId, ProgramInfo] = dataclasses.field(default_factory=dict[HostId, ProgramInfo])
    failure: Failure | None = None


class HostState(enum.StrEnum):
    """A worker's life; `TRANSITIONS` says which follows which."""

    STARTING = "starting"
    UP = "up"
    LEAVING = "leaving"
    """Told to write a snapshot and end, so that its island can form a new group."""
    AWAY = "away"
    """Ended; waits for the rest of its island."""
    DOWN = "down"
    """Given up: it was lost several times without coming up."""


TRANSITIONS: dict[HostState, frozenset[HostState]] = {
    HostState.STARTING: frozenset({HostState.UP, HostState.AWAY}),
    HostState.UP: frozenset({HostState.LEAVING, HostState.AWAY}),
    HostState.LEAVING: frozenset({HostState.AWAY}),
    HostState.AWAY: frozenset({HostState.STARTING, HostState.DOWN}),
    HostState.DOWN: frozenset(),
}
"""Which states may follow which."""


@dataclasses.dataclass(slots=True, eq=False)
class Host:
    """One worker."""

    id: HostId
    island: IslandId
    state: HostState = HostState.STARTING
    pid: int = 0
    devices: tuple[Device, ...] = ()
    peer: Peer | None = None
    link: str = ""
    """Where it takes clients' links; empty while it takes none."""
    told: set[HostId] = dataclasses.field(default_factory=set[HostId])
    """The hosts that it sends shards to: it hears where they are, and of changes."""
    known_to: set[HostId] = dataclasses.field(default_factory=set[HostId])
    """The hosts that send it shards."""
    snapshot: str = ""
    """The folder of the snapshot it was told to write; empty if it wrote none."""
    losses: int = 0
    """How often it was lost since it last came up."""


@dataclasses.dataclass(slots=True, eq=False)
class Island:
    """The hosts that form one group."""

    id: IslandId
    hosts: tuple[HostId, ...]
    up: int = 0
    """How many of its hosts are up."""
    held: list[tuple[tuple[HostId, ...], Command]] = dataclasses.field(
        default_factory=list[tuple[tuple[HostId, ...], Command]]
    )
    """The commands that its hosts get once all of them are up (again), in the log's order."""
    held_since: int = 0
    """The first id of what held commands make and ask."""
    loss: Failure | None = None
    """What became of the host that was lost since the island was complete."""
    last_loss: Failure | None = None
    """Why its earlier processes ended, if there were any. The values they had to send have ids below `held_since`."""
    unexplained: list[tuple[RequestId, HostId]] = dataclasses.field(default_factory=list[tuple[RequestId, HostId]])
    """Questions that a host could not answer as another left it alone: which one may not be known yet."""

    @property
    def complete(self) -> bool:
        """Whether all hosts are up: only then do they get commands."""
        return self.up == len(self.hosts)


Requests = dict[RequestId, Pending]
