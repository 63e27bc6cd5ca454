"""What the frontend says no to: a code and one sentence that reach the client as they are."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from polypath.errors import ProtocolError
from polypath.types import Code, Failure

Buffer = bytes | bytearray | memoryview
"""Bytes, which are not copied where they are many."""

_M = TypeVar("_M", bound=Message)


class Refused(ProtocolError):
    """A request that cannot be served; the session goes on where it can."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(code, message)


def invalid(message: str) -> Refused:
    """The client sent something that no client of ours sends."""
    return Refused(Code.INVALID_ARGUMENT, message)


def unimplemented(what: str, instead: str) -> Refused:
    """`what` is part of the protocol, and this release does not have it."""
    return Refused(Code.UNIMPLEMENTED, f"This release of Polypath has no {what}: {instead}.")


def parse(kind: type[_M], data: Buffer, what: str) -> _M:
    """`data` as a message.

    Raises:
        Refused: it is none.
    """
    message: Any = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise invalid(f"The bytes of {what} cannot be decoded as {kind.__name__}: {error}.") from error
    return message
