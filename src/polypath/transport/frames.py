"""The frames around a message.

    head to worker    sequence number (8 bytes), command
    head to relay     sequence number, and before the command who it is for (`Down`)
    worker to head    kind, payload
    relay to head     the same, and what a node below says, in an envelope (`FROM`)
    worker to worker  tag (text), header, data

A question numbers what several hosts are asked at once, so that relays can put their answers together. The
answer then begins with the question and its hosts, 4 bytes each.

A stream puts the length before each; ZeroMQ has frames of its own, and reports there say whose
they are. All integers are little-endian. A frame that does not fit raises `ProtocolError`.
"""

from __future__ import annotations

import array
import mmap
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from polypath.errors import ProtocolError
from polypath.transport.bulk import room
from polypath.types import HostId

Buffer = bytes | memoryview

REPORT: Final = 1
HELLO: Final = 2
ANSWER: Final = 3
"""To a question: question, number of hosts, hosts, a report without its hosts."""
EXCEPTION: Final = 4
"""To a question, and not to be put together with other answers: question, report."""
FROM: Final = 5
"""What another node says: node, incarnation, kind, payload."""
EXPECTED: Final = 6
"""A relay expects somebody, as it was told by this number."""
SERVING: Final = 7
"""A relay is ready for those below it, at this address."""
ENDED: Final = 8
"""A host that shares its process with others ended, after all that it reported."""
BEAT: Final = 9
"""The link lives (`beats`). No payload; downwards, a command without bytes says so."""
SILENT: Final = 10
"""A node below was silent for so many seconds, and is to be given up."""

COMMAND: Final = 1
EXPECT: Final = 2
"""To a relay: somebody will connect below it."""
DROP: Final = 3
"""To a relay: forget somebody below it."""

FIRST_RELAY: Final = 1 << 30
"""Nodes are numbered alike: hosts from 0, relays from here."""

COMMAND_HEAD: Final = struct.Struct("<IQ")
"""On a stream: length of the command, sequence number."""
REPORT_HEAD: Final = struct.Struct("<IB")
"""On a stream: length of the payload, kind."""
MOST_BYTES: Final = 1 << 31
"""In a frame on a stream."""

_DOWN: Final = struct.Struct("<BQI")
_ANSWER: Final = struct.Struct("<QI")
_QUESTION: Final = struct.Struct("<Q")
_FROM: Final = struct.Struct("<IIB")
_SILENT: Final = struct.Struct("<d")
_HOST: Final = 4
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
        self._rest = b""
        """The beginning of a head."""
        self._told = 0
        """Of a frame whose payload has come in part, as the next two: the head's second field."""
        self._payload: mmap.mmap | bytearray | None = None
        self._filled = 0

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[int, Buffer]]:
        """The head's second field and the payload of each frame that `data` completes.

        A large payload is a view of memory of its own.

        Raises:
            ProtocolError: a frame is longer than any can be.
        """
        at, size, head = 0, len(data), self._head
        if self._payload is not None:
            at = min(len(self._payload) - self._filled, size)
            self._fill(data[:at])
            if self._filled < len(self._payload):
                return
            payload, self._payload = self._payload, None
            yield self._told, memoryview(payload) if isinstance(payload, mmap.mmap) else bytes(payload)
        elif self._rest:
            data, self._rest = self._rest + data, b""
            size = len(data)
        while size - at >= head.size:
            length, told = head.unpack_from(data, at)
            if length > MOST_BYTES:
                raise ProtocolError(f"A frame of {length} bytes is announced, where {MOST_BYTES} is the most.")
            start, end = at + head.size, at + head.size + length
            if end > size:
                self._told, self._payload, self._filled = told, room(length), 0
                self._fill(data[start:])
                return
            yield told, bytes(data[start:end])
            at = end
        self._rest = bytes(data[at:])

    def _fill(self, data: bytes | memoryview) -> None:
        assert self._payload is not None
        self._payload[self._filled : self._filled + len(data)] = data
        self._filled += len(data)


def pack_sequence(sequence: int) -> bytes:
    return _SEQUENCE.pack(sequence)


def unpack_sequence(frame: Buffer) -> int:
    if len(frame) != _SEQUENCE.size:
        raise ProtocolError(f"A command's sequence number has {len(frame)} bytes instead of {_SEQUENCE.size}.")
    return _SEQUENCE.unpack(frame)[0]


def pack_sender(host: int, incarnation: int, kind: int) -> bytes:
    return _SENDER.pack(host, incarnation, kind)


def unpack_sender(frame: Buffer) -> tuple[int, int, int]:
    """(host, incarnation, kind)."""
    if len(frame) != _SENDER.size:
        raise ProtocolError(f"A report's sender has {len(frame)} bytes instead of {_SENDER.size}.")
    return _SENDER.unpack(frame)


class Down(NamedTuple):
    """What a relay is sent."""

    kind: int
    question: int
    """Of a command; else what the head counts by."""
    route: bytes
    """The hosts; none for all that are below."""
    body: Buffer

    def pack(self) -> bytes:
        return _DOWN.pack(self.kind, self.question, len(self.route)) + self.route + self.body

    @classmethod
    def unpack(cls, data: Buffer) -> Down:
        if len(data) < _DOWN.size:
            raise ProtocolError(f"A relay was sent {len(data)} bytes, fewer than the head of a command.")
        kind, question, size = _DOWN.unpack_from(data)
        at = _DOWN.size
        if len(data) < at + size:
            raise ProtocolError("A route is cut short.")
        return cls(kind, question, bytes(data[at : at + size]), data[at + size :])


def pack_answer(question: int, hosts: bytes, body: Buffer) -> bytes:
    return _ANSWER.pack(question, len(hosts) // _HOST) + hosts + body


def unpack_answer(data: Buffer) -> tuple[int, tuple[HostId, ...], bytes]:
    """(question, hosts, body)."""
    if len(data) < _ANSWER.size:
        raise ProtocolError("An answer is cut short.")
    question, count = _ANSWER.unpack_from(data)
    end = _ANSWER.size + count * _HOST
    return question, unpack_hosts(data[_ANSWER.size : end], count), bytes(data[end:])


def pack_exception(question: int, body: Buffer) -> bytes:
    return _QUESTION.pack(question) + body


def unpack_exception(data: Buffer) -> tuple[int, Buffer]:
    """(question, body)."""
    if len(data) < _QUESTION.size:
        raise ProtocolError("An answer is cut short.")
    return _QUESTION.unpack_from(data)[0], data[_QUESTION.size :]


def pack_from(node: int, incarnation: int, kind: int, payload: Buffer) -> bytes:
    return _FROM.pack(node, incarnation, kind) + payload


def unpack_from(data: Buffer) -> tuple[int, int, int, Buffer]:
    """(node, incarnation, kind, payload)."""
    if len(data) < _FROM.size:
        raise ProtocolError("What a relay hands on is cut short.")
    return *_FROM.unpack_from(data), data[_FROM.size :]


def pack_silent(seconds: float) -> bytes:
    return _SILENT.pack(seconds)


def unpack_silent(data: bytes) -> float:
    """For how many seconds a node was silent."""
    if len(data) != _SILENT.size:
        raise ProtocolError(f"A silence is told in {len(data)} bytes instead of {_SILENT.size}.")
    return _SILENT.unpack(data)[0]


def pack_hosts(hosts: Iterable[HostId]) -> bytes:
    return _swapped(array.array("I", hosts)).tobytes()


def unpack_hosts(data: Buffer, count: int | None = None) -> tuple[HostId, ...]:
    """The hosts; so many, if that is told."""
    if not data or len(data) % _HOST or count not in (None, len(data) // _HOST):
        raise ProtocolError(f"A list of hosts has {len(data)} bytes.")
    hosts = array.array("I")
    hosts.frombytes(data)
    return tuple(_swapped(hosts))


def _swapped(numbers: array.array[int]) -> array.array[int]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
