"""The service behind `polypath status`, and what our client asks besides the protocol, over the clients' socket.

Owns nothing: it calls what the head gave it. `control_client` is the other end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from polypath.controller.events import Holdings, MemoryStats, ProgramSource, Result
from polypath.frontend.http2_stream import Methods, Stream
from polypath.frontend.refused import Refused, invalid
from polypath.types import Failure

SERVICE: Final = "polypath.Control"

Question = MemoryStats | ProgramSource | Holdings
"""What the controller is asked; whoever serves puts the session and the number in."""

_questions: Final = msgspec.msgpack.Decoder(Question)

Ask = Callable[[Question], Awaitable[Result]]


class Control:
    """Answers the command line, and what our client asks besides the protocol.

    Args:
        status: what to show, as any structure that msgspec can write.
    """

    def __init__(self, status: Callable[[], msgspec.Struct]) -> None:
        self._status = status
        self.ask: Ask | None = None
        """Puts a question to the controller; whoever serves sets it."""

    def methods(self) -> Methods:
        """What a server is to serve."""
        return {f"/{SERVICE}/Status": self._answer_status, f"/{SERVICE}/Ask": self._answer}

    async def _answer_status(self, call: Stream) -> None:
        await call.read_only()
        await call.write(msgspec.json.encode(self._status()))

    async def _answer(self, call: Stream) -> None:
        assert self.ask is not None
        try:
            question = _questions.decode(await call.read_only())
        except msgspec.DecodeError as error:
            raise invalid(f"This is no question to the cluster: {error}.") from error
        found = await self.ask(question)
        if isinstance(found, Failure):
            raise Refused(found.code, found.message)
        assert isinstance(found, bytes)
        await call.write(found)
