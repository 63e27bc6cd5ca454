"""The service on which clients serve host callbacks: one stream for each, opened with its first.

Owns the streams and the calls that are not answered. A call whose client is gone, or goes,
fails: no worker waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import msgspec

from polypath.controller.events import Returned
from polypath.frontend.calls import Call, Methods, Wait
from polypath.frontend.refused import Buffer, Refused, invalid
from polypath.messages import Answer, Callbacks, Called, Released, decode, encode
from polypath.types import Code, Failure, HostId

SERVICE: Final = "polypath.Callbacks"
CLIENT_HEADER: Final = "polypath-client-bin"

_GONE: Final = Failure(
    Code.CANCELLED,
    "The process whose function the program calls (jax.debug.print, pure_callback, io_callback) is gone.",
)
_answers: Final = msgspec.msgpack.Decoder(Answer)


class HostCallbacks:
    """Calls from workers to clients."""

    def __init__(self, submit: Callable[[Returned], None]) -> None:
        self._submit = submit
        self._streams: dict[str, _Stream] = {}

    def methods(self) -> Methods:
        """What a server is to serve."""
        return {f"/{SERVICE}/Serve": self._serve}

    def call(self, called: Called) -> None:
        """Have the client run a function; `Returned` is submitted when it has, or cannot."""
        stream = self._streams.get(called.callbacks.client)
        if stream is None:
            self._submit(Returned(called.host, called.call, _GONE))
        else:
            stream.call(called)

    def release(self, callbacks: Callbacks) -> None:
        """Tell the client, if it is still there, that its functions will not be called any more."""
        stream = self._streams.get(callbacks.client)
        if stream is not None:
            stream.tell(Released(callbacks))

    async def _serve(self, call: Call) -> None:
        name = (call.header(CLIENT_HEADER) or b"").decode(errors="replace")
        if not name or name in self._streams:
            raise invalid(f"The stream of callbacks has no name of its own in its header {CLIENT_HEADER}.")
        stream = self._streams[name] = _Stream(self._submit)
        try:
            await call.converse(stream)
        finally:
            del self._streams[name]
            stream.close()


class _Stream:
    """One client's: calls go out, answers come in."""

    def __init__(self, submit: Callable[[Returned], None]) -> None:
        self._submit = submit
        self._open: set[tuple[HostId, int]] = set()
        self._calls: deque[bytes] = deque()
        self._awake = asyncio.Event()
        self._wake: Callable[[], None] = self._awake.set
        self._finished = False

    def call(self, called: Called) -> None:
        self._open.add((called.host, called.call))
        self.tell(called)

    def tell(self, message: Called | Released) -> None:
        self._calls.append(encode(message))
        self._wake()

    def close(self) -> None:
        """The client is gone."""
        left, self._open = self._open, set()
        for host, call in left:
            self._submit(Returned(host, call, _GONE))

    # --- As a `Conversation`

    def connect(self, write: Callable[[bytes], None]) -> None:
        def write_all() -> None:
            while self._calls:
                write(self._calls.popleft())

        self._wake = write_all
        # An empty message tells the client that its name is known.
        write(b"")
        write_all()

    def receive(self, data: Buffer) -> Wait | None:
        try:
            answer = decode(_answers, bytes(data))
        except msgspec.DecodeError as error:
            raise invalid(f"This is no answer to a callback: {error}.") from error
        key = (answer.host, answer.call)
        if key in self._open:
            self._open.remove(key)
            self._submit(Returned(answer.host, answer.call, answer.result))
        return None

    async def read_requests(self, stream: AsyncIterator[Buffer]) -> Refused | None:
        async for data in stream:
            try:
                self.receive(data)
            except Refused as refused:
                return refused
        return None

    async def write_responses(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(b"")
        while True:
            while self._calls:
                await write(self._calls.popleft())
            if self._finished:
                return
            self._awake.clear()
            await self._awake.wait()

    def finish(self) -> None:
        self._finished = True
        self._wake()
