"""One HTTP/2 stream that carries a gRPC call: the two queues of its messages.

Owns what has come and is not taken, what is to go and does not fit the peer's windows, and the
window that the peer may fill. The rules:

- A message is given to whoever takes it at once, inside the read that brought it. Where that
  is not possible (its taker waits for something, or the client does not read our responses)
  it is queued, and the window is not replenished until the queue is empty: so the client stops.
- A message is written at once too, as far as the windows allow; the rest is queued. Only who
  sends much at a time (`write`) waits for the queue to drain.

`http2` owns the connection, its windows and the frames' order.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from polypath.frontend.http2_frames import DATA, MessageReader, data_of_message, head, message_head
from polypath.frontend.http2_headers import response_headers
from polypath.frontend.refused import Buffer, Refused, invalid
from polypath.types import Code

if TYPE_CHECKING:
    from polypath.frontend.http2 import Connection

Wait: TypeAlias = Callable[[], Awaitable[None]]
"""What has to be awaited before the next message can be taken."""

WINDOW: Final = 1 << 26
"""Bytes that a client may send and we not have taken, on a stream."""

_MOST_QUEUED: Final = 1 << 18
"""Bytes of responses that may wait for a slow client before it is not read from."""


class Stream:
    """One call of a method: messages come and go as a stream, as all kinds of gRPC's methods do on the wire."""

    def __init__(self, id_: int, connection: Connection, headers: dict[str, bytes], window: int) -> None:
        self.id = id_
        self.window = window
        """Bytes of DATA that the peer takes now on this stream."""
        self.ended = False
        """The client has sent all."""
        self.begun = False
        """Our headers have gone."""
        self._connection = connection
        self._headers = headers
        self._reader = MessageReader()
        self._messages: deque[Buffer] = deque()
        self._take: Callable[[Buffer], Wait | None] | None = None
        self._wait: Wait | None = None
        self._failure: Exception | None = None
        self._awake: asyncio.Future[None] | None = None
        self._may_receive = WINDOW
        self._taken = 0
        self._outgoing: deque[memoryview] = deque()
        self._outgoing_size = 0
        self._end: bytes | None = None

    # --- What the method sees -----------------------------------------------------------------

    @property
    def peer(self) -> str:
        """The process that calls, for people."""
        return self._connection.peer

    def header(self, name: str) -> bytes | None:
        """The value of a binary header.

        Raises:
            Refused: it is not in base64.
        """
        value = self._headers.get(name)
        if value is None:
            return None
        try:
            return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
        except binascii.Error as error:
            raise invalid(f"The header {name} is not in base64: {error}.") from error

    async def each(self, take: Callable[[Buffer], Wait | None]) -> None:
        """Give `take` each message in order, until the client has sent all."""
        while True:
            while self._messages and not self._congested:
                wait = take(self._messages.popleft())
                if wait is not None:
                    await wait()
            if not self._messages:
                self._replenish()
            if self._failure is not None:
                raise self._failure
            if self.ended and not self._messages:
                return
            if not self._congested:
                self._take = take
            try:
                await self._sleep()
            finally:
                self._take = None
            if self._wait is not None:
                wait, self._wait = self._wait, None
                await wait()

    async def read_only(self) -> Buffer:
        """The one message of a call.

        Raises:
            Refused: there is none, or a second.
        """
        found: list[Buffer] = []

        def take(data: Buffer) -> None:
            if found:
                raise invalid("The call has two messages where its method takes one.")
            found.append(data)

        await self.each(take)
        if not found:
            raise invalid("The call has no message where its method takes one.")
        return found[0]

    async def write(self, data: bytes, more: Buffer = b"") -> None:
        """Send a message, of which `more` is not copied, and wait while the client takes no more."""
        self.write_nowait(data, more)
        while self._congested:
            await self._sleep()

    def write_nowait(self, data: bytes, more: Buffer = b"") -> None:
        """Send a message, now or once the windows let it through."""
        if self._end is not None:
            return  # The client has reset the stream, and who writes does not know yet.
        connection = self._connection
        if not self.begun:
            self.begun = True
            connection.send(response_headers(self.id))
        size = len(data) + len(more) + 5
        if (
            not more
            and not self._outgoing
            and size <= self.window
            and size <= connection.window
            and size <= connection.most_frame
        ):
            self.window -= size
            connection.window -= size
            connection.send(data_of_message(self.id, data))
            return
        self._outgoing.append(memoryview(message_head(size - 5) + data))
        if more:
            self._outgoing.append(memoryview(more))
        self._outgoing_size += size
        self.pump()

    @property
    def _congested(self) -> bool:
        return self._outgoing_size > _MOST_QUEUED or self._connection.paused

    async def _sleep(self) -> None:
        self._awake = asyncio.get_running_loop().create_future()
        try:
            await self._awake
        finally:
            self._awake = None

    # --- What the connection sees -------------------------------------------------------------

    def wake(self) -> None:
        """Have the method look again at what it waits for."""
        if self._awake is not None and not self._awake.done():
            self._awake.set_result(None)

    def receive(self, payload: Buffer) -> bool:
        """Take the payload of a DATA frame; False where the peer had no window for it."""
        size = len(payload)
        self._may_receive -= size
        if self._may_receive < 0:
            return False
        self._taken += size
        try:
            messages = self._reader.feed(payload)
        except Refused as refused:
            self._fail(refused)
            return True
        for message in messages:
            self._receive_message(message)
        if not self._messages:
            self._replenish()
        return True

    def _receive_message(self, message: Buffer) -> None:
        if self._take is None or self._messages:
            if self._failure is None:
                self._messages.append(message)
            return
        try:
            self._wait = self._take(message)
        except Exception as error:  # The call's own task raises it again.
            self._fail(error)
            return
        if self._wait is not None or self._congested:
            self._take = None
            self.wake()

    def _fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._take = None
        self.wake()

    def end(self) -> None:
        """The client has sent all."""
        self.ended = True
        if not self._reader.empty and self._failure is None:
            self._failure = Refused(Code.INVALID_ARGUMENT, "The call ended within a message.")
        self.wake()

    def _replenish(self) -> None:
        if self._taken > WINDOW // 4 and not self.ended:
            self._may_receive += self._taken
            self._connection.replenish(self.id, self._taken)
            self._taken = 0

    def finish(self, end: bytes) -> bool:
        """No message will be written: send the trailers `end` after the last; True if they have gone."""
        self._end = end
        return self.pump()

    def pump(self) -> bool:
        """Send what the windows allow; True once all has gone, and the trailers."""
        connection = self._connection
        while self._outgoing:
            whole = self._outgoing[0]
            size = min(len(whole), self.window, connection.window, connection.most_frame)
            if size <= 0:
                if self.window > 0:
                    connection.wait_window(self)
                return False
            connection.send(head(DATA, 0, self.id, size))
            connection.send(whole[:size])
            self.window -= size
            connection.window -= size
            self._outgoing_size -= size
            if size == len(whole):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = whole[size:]
        if not self._congested:
            self.wake()
        if self._end is None:
            return False
        connection.send(self._end)
        return True

    def reset(self) -> None:
        """The client has given the call up: nothing more is sent."""
        self._end = b""
        self._outgoing.clear()
        self._messages.clear()


Method: TypeAlias = Callable[[Stream], Awaitable[None]]
"""Serves a call; it ends well on return, and with the failure of a `Refused` that is raised."""
Methods: TypeAlias = Mapping[str, Method]
"""By path: `/package.Service/Method`."""
