"""The service on which clients serve host callbacks: one stream for each, opened with its first.

Owns the streams and the calls that are not answered. A call whose client is gone, or goes,
fails: no worker waits for nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from polypath.controller.events import Returned
from polypath.frontend.http2_stream import Methods, Stream
from polypath.frontend.refused import Buffer, invalid
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
        self._streams: dict[str, _Client] = {}

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

    async def _serve(self, call: Stream) -> None:
        name = (call.header(CLIENT_HEADER) or b"").decode(errors="replace")
        if not name or name in self._streams:
            raise invalid(f"The stream of callbacks has no name of its own in its header {CLIENT_HEADER}.")
        stream = self._streams[name] = _Client(self._submit, call.write_nowait)
        try:
            await call.each(stream.receive)
        finally:
            del self._streams[name]
            stream.close()


class _Client:
    """The stream of one client: calls go out, answers come in."""

    def __init__(self, submit: Callable[[Returned], None], write: Callable[[bytes], None]) -> None:
        self._submit = submit
        self._write = write
        self._open: set[tuple[HostId, int]] = set()
        write(b"")  # An empty message tells the client that its name is known.

    def call(self, called: Called) -> None:
        self._open.add((called.host, called.call))
        self.tell(called)

    def tell(self, message: Called | Released) -> None:
        self._write(encode(message))

    def close(self) -> None:
        """The client is gone."""
        left, self._open = self._open, set()
        for host, call in left:
            self._submit(Returned(host, call, _GONE))

    def receive(self, data: Buffer) -> None:
        """Take an answer.

        Raises:
            Refused: it is none.
        """
        try:
            answer = decode(_answers, bytes(data))
        except msgspec.DecodeError as error:
            raise invalid(f"This is no answer to a callback: {error}.") from error
        key = (answer.host, answer.call)
        if key in self._open:
            self._open.remove(key)
            self._submit(Returned(answer.host, answer.call, answer.result))
