"""The frames around a message.

    head to worker    sequence number (8 bytes), command
    worker to head    kind, payload
    worker to worker  tag (text), header, data

A stream puts the length before each; ZeroMQ has frames of its own, and reports there say whose
they are. All integers are little-endian. A frame that does not fit raises `ProtocolError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from polypath.errors import ProtocolError

REPORT: Final = 1
HELLO: Final = 2

COMMAND_HEAD: Final = struct.Struct("<IQ")
"""On a stream: length of the command, sequence number."""
REPORT_HEAD: Final = struct.Struct("<IB")
"""On a stream: length of the payload, kind."""
MOST_BYTES: Final = 1 << 31
"""In a frame on a stream."""

_SEQUENCE: Final = struct.Struct("<Q")
_SENDER: Final = struct.Struct("<III")


class Hello(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A worker's first frame: who it is."""

    host: int
    incarnation: int
    key: str
    """That it was given for this start."""
    commands: str = ""
    """Where it takes commands, if that is not where it says hello."""


hellos: Final = msgspec.msgpack.Decoder(Hello)


class StreamReader:
    """Cuts a stream, which may come in any pieces, into frames behind heads of one kind."""

    def __init__(self, head: struct.Struct) -> None:
        self._head = head
        self._rest = bytearray()
        self._needed = 0

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
        """The head's second field and the payload of each frame that `data` completes.

        Raises:
            ProtocolError: a frame is longer than any can be.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at, size, head = 0, len(data), self._head
        self._needed = head.size
        while size - at >= head.size:
            length, told = head.unpack_from(data, at)
            if length > MOST_BYTES:
                raise ProtocolError(f"A frame of {length} bytes is announced, where {MOST_BYTES} is the most.")
            start, end = at + head.size, at + head.size + length
            if end > size:
                self._needed = end - at
                break
            yield told, bytes(data[start:end])
            at = end
        if at < size:
            self._rest += data[at:]


def pack_sequence(sequence: int) -> bytes:
    return _SEQUENCE.pack(sequence)


def unpack_sequence(frame: bytes | memoryview) -> int:
    if len(frame) != _SEQUENCE.size:
        raise ProtocolError(f"A command's sequence number has {len(frame)} bytes instead of {_SEQUENCE.size}.")
    return _SEQUENCE.unpack(frame)[0]


def pack_sender(host: int, incarnation: int, kind: int) -> bytes:
    return _SENDER.pack(host, incarnation, kind)


def unpack_sender(frame: bytes | memoryview) -> tuple[int, int, int]:
    """(host, incarnation, kind)."""
    if len(frame) != _SENDER.size:
        raise ProtocolError(f"A report's sender has {len(frame)} bytes instead of {_SENDER.size}.")
    return _SENDER.unpack(frame)
