"""What a gRPC server is to this package: methods by path, and the calls it makes of them.

There are two: `http2` (lean, on the head's own loop) and `grpcio_server` (the standard library's
peer, to compare with and to fall back on). Every method is served as a stream of messages each
way, which is what all of gRPC's kinds of methods are on the wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, Literal, Protocol, TypeAlias

from polypath.frontend.refused import Buffer, Refused, invalid
from polypath.types import Code

Wait: TypeAlias = Callable[[], Awaitable[None]]
"""What has to be awaited before the next message can be taken."""

ServerKind: TypeAlias = Literal["lean", "grpcio"]

MOST_BYTES: Final = 2**31 - 1
"""In one message: protobuf takes no more."""


class Conversation(Protocol):
    """A stream whose responses are not made where its requests are read.

    It has two faces, and a server uses one: `connect` and `receive` do all where it comes up,
    `write_responses` and `read_requests` are tasks beside each other.
    """

    def connect(self, write: Callable[[bytes], None]) -> None:
        """Give responses to `write`, from now on."""
        ...

    def receive(self, data: Buffer) -> Wait | None:
        """Take a message, or say what to wait for."""
        ...

    async def read_requests(self, stream: AsyncIterator[Buffer]) -> Refused | None:
        """Take all messages; return why it cannot go on, if so."""
        ...

    async def write_responses(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write the responses until `finish`."""
        ...

    def finish(self) -> None:
        """No message will come: write what is left."""
        ...


class Call(Protocol):
    """One call of a method."""

    @property
    def peer(self) -> str:
        """Who calls, for people."""
        ...

    def header(self, name: str) -> bytes | None:
        """The value of a binary header."""
        ...

    async def each(self, take: Callable[[Buffer], Wait | None]) -> None:
        """Give `take` each message in order, until the client has sent all."""
        ...

    async def write(self, data: bytes, more: Buffer = b"") -> None:
        """Send a message, of which `more` is not copied, and wait while the client takes no more."""
        ...

    async def converse(self, conversation: Conversation) -> None:
        """Serve a conversation until the client has sent all."""
        ...


Method: TypeAlias = Callable[[Call], Awaitable[None]]
"""Serves a call; it ends well on return, and with the failure of a `Refused` that is raised."""
Methods: TypeAlias = Mapping[str, Method]
"""By path: `/package.Service/Method`."""


class Server(Protocol):
    """Serves methods on a unix socket."""

    async def serve(self, path: str) -> None:
        """Listen at `path`, and return.

        Raises:
            OSError: nobody can listen there.
        """
        ...

    async def stop(self) -> None:
        """End all calls."""
        ...


async def read_only(call: Call) -> Buffer:
    """The one message of a call.

    Raises:
        Refused: there is none, or a second.
    """
    found: list[Buffer] = []

    def take(data: Buffer) -> None:
        if found:
            raise invalid("The call has two messages where its method takes one.")
        found.append(data)

    await call.each(take)
    if not found:
        raise Refused(Code.INVALID_ARGUMENT, "The call has no message where its method takes one.")
    return found[0]
