"""HTTP/2 frames (RFC 9113) and gRPC's messages inside them: bytes in, frames out, and back.

Does no I/O and knows no stream's state: that is `http2`. What it cannot read raises `Broken`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from polypath.frontend.refused import Buffer, Refused
from polypath.types import Code

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME: Final = 16_384
MOST_WINDOW: Final = 2**31 - 1
MOST_FRAME: Final = 1 << 22
"""Bytes in a frame that we take: room for a chunk of an upload."""
MOST_HEADERS: Final = 1 << 16
"""Bytes in a call's headers."""
MOST_BYTES: Final = 2**31 - 1
"""Bytes in one message: protobuf takes no more."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

SETTING_MAX_STREAMS: Final = 3
SETTING_WINDOW: Final = 4
SETTING_FRAME: Final = 5
SETTING_HEADERS: Final = 6


class Error(IntEnum):
    """HTTP/2's error codes, as far as we use them."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Broken(Exception):
    """The peer does not speak HTTP/2; the connection ends."""

    def __init__(self, code: Error, message: str) -> None:
        super().__init__(message)
        self.code = code


class Frame(NamedTuple):
    """One frame, as it came. The payload of a DATA frame may change at the next read."""

    kind: int
    flags: int
    stream: int
    payload: Buffer


_HEAD: Final = struct.Struct(">HBBBI")  # the length's 24 bits, kind, flags, stream
_MESSAGE_HEAD: Final = struct.Struct(">BI")  # whether compressed, length
_DATA_HEAD: Final = struct.Struct(">HBBBIBI")  # of a DATA frame with a whole message
_NUMBER: Final = struct.Struct(">I")
_SETTING: Final = struct.Struct(">HI")


class FrameReader:
    """Cuts one connection's bytes, which may come in any pieces, into frames.

    A DATA frame is handed on in pieces, as it comes: each means what a frame of its own would.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._begun = False
        self._unfinished: tuple[int, int, int] | None = None
        """Of a DATA frame: flags, stream, bytes that have yet to come."""

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """The frames that `data` completes, and what it brings of a DATA frame. Read all of them before the next call.

        Raises:
            Broken: this is not HTTP/2, or a frame is bigger than we take.
        """
        if self._unfinished:
            yield from self._go_on(data)
            return
        whole = data
        if self._rest:
            self._rest += data
            if not self._completes_frame():
                return
            whole = bytes(self._rest)
            self._rest.clear()
        at, size = 0, len(whole)
        if not self._begun:
            if whole[: len(PREFACE)] != PREFACE[:size]:
                raise Broken(Error.PROTOCOL_ERROR, "The connection does not begin as HTTP/2.")
            self._begun = size >= len(PREFACE)
            at = len(PREFACE) if self._begun else size
            if not self._begun:
                self._rest += whole
        while size - at >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(whole, at)
            end = at + 9 + (high << 8 | low)
            if end - at - 9 > MOST_FRAME:
                raise Broken(Error.FRAME_SIZE_ERROR, "A frame is bigger than the settings allow.")
            stream &= 0x7FFF_FFFF
            if (kind == DATA and flags & PADDED) or (kind == HEADERS and flags & (PADDED | PRIORITIZED)):
                raise Broken(
                    Error.PROTOCOL_ERROR, "Padding and priorities are not read here: gRPC's clients send none."
                )
            if end > size:
                if kind == DATA and size > at + 9:
                    self._unfinished = flags, stream, end - size
                    yield Frame(kind, flags & ~END_STREAM, stream, whole[at + 9 :])
                    at = size
                break
            yield Frame(kind, flags, stream, whole[at + 9 : end])
            at = end
        if at < size:
            self._rest += whole[at:]

    def _go_on(self, data: bytes | memoryview) -> Iterator[Frame]:
        assert self._unfinished is not None
        flags, stream, missing = self._unfinished
        if len(data) < missing:
            self._unfinished = flags, stream, missing - len(data)
            yield Frame(DATA, flags & ~END_STREAM, stream, data)
            return
        self._unfinished = None
        yield Frame(DATA, flags, stream, data[:missing])
        if len(data) > missing:
            yield from self.feed(data[missing:])

    def _completes_frame(self) -> bool:
        """Whether the rest has a whole frame: a big one in many pieces is not copied at each."""
        rest = self._rest
        if not self._begun or len(rest) < 9:
            return True
        length = rest[0] << 16 | rest[1] << 8 | rest[2]
        return length > MOST_FRAME or len(rest) >= 9 + length


class MessageReader:
    """Puts one stream's messages together from the payloads of its DATA frames."""

    def __init__(self) -> None:
        self._head = b""
        """Of a message: less than the five bytes that say how long it is."""
        self._message = bytearray()
        self._missing = 0
        """Bytes that the message has yet to get."""

    @property
    def empty(self) -> bool:
        """Whether no message is half here."""
        return not self._head and not self._missing

    def feed(self, payload: Buffer) -> list[Buffer]:
        """The messages that `payload` completes, which may be changed and is not kept.

        Raises:
            Refused: one is compressed, or too big.
        """
        at, size, found = 0, len(payload), list[Buffer]()
        if self._missing:
            at = min(self._missing, size)
            self._message += payload[:at]
            self._missing -= at
            if not self._missing:
                found.append(self._message)
                self._message = bytearray()
        while at < size:
            if self._head or size - at < 5:
                taken = min(5 - len(self._head), size - at)
                self._head += payload[at : at + taken]
                at += taken
                if len(self._head) < 5:
                    break
                length, self._head = _length(self._head), b""
            else:
                length = _length(payload, at)
                at += 5
            if length > size - at:
                self._message += payload[at:]
                self._missing = length - (size - at)
                break
            found.append(bytes(payload[at : at + length]))
            at += length
        return found


def _length(data: Buffer, at: int = 0) -> int:
    compressed, length = _MESSAGE_HEAD.unpack_from(data, at)
    if compressed:
        raise Refused(Code.UNIMPLEMENTED, "The message is compressed, which this server cannot undo: send it as it is.")
    if length > MOST_BYTES:
        raise Refused(
            Code.RESOURCE_EXHAUSTED, f"The message has {length} bytes; no more than {MOST_BYTES} can be read."
        )
    return length


def number(frame: Frame) -> int:
    """The payload of a frame that is one number.

    Raises:
        Broken: it is none.
    """
    if len(frame.payload) != 4:
        raise Broken(Error.FRAME_SIZE_ERROR, f"A frame of kind {frame.kind} has not 4 bytes.")
    return int(_NUMBER.unpack(frame.payload)[0])


def settings_of(frame: Frame) -> list[tuple[int, int]]:
    """What a SETTINGS frame sets.

    Raises:
        Broken: its size or its stream is wrong, or a value that we use.
    """
    if frame.stream:
        raise Broken(Error.PROTOCOL_ERROR, "Settings are the connection's, not a stream's.")
    if len(frame.payload) % 6 or (frame.flags & ACK and frame.payload):
        raise Broken(Error.FRAME_SIZE_ERROR, "The settings are cut off.")
    values = list(_SETTING.iter_unpack(frame.payload))
    for name, value in values:
        if name == SETTING_WINDOW and value > MOST_WINDOW:
            raise Broken(Error.FLOW_CONTROL_ERROR, "The window in the settings is too big.")
        if name == SETTING_FRAME and not DEFAULT_FRAME <= value < 1 << 24:
            raise Broken(Error.PROTOCOL_ERROR, "The size of frames in the settings cannot be.")
    return values


def frame(kind: int, flags: int, stream: int, payload: Buffer = b"") -> bytes:
    """A frame's bytes."""
    return head(kind, flags, stream, len(payload)) + bytes(payload)


def head(kind: int, flags: int, stream: int, size: int) -> bytes:
    """What comes before a frame's payload of `size` bytes."""
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream)


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*value) for value in values))


def reset(stream: int, code: Error) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def goaway(last_stream: int, code: Error, why: str) -> bytes:
    """A GOAWAY frame."""
    return frame(GOAWAY, 0, 0, _NUMBER.pack(last_stream) + _NUMBER.pack(code) + why.encode())


def window_update(stream: int, more: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(more))


def data_of_message(stream: int, message: bytes) -> bytes:
    """A DATA frame that holds one whole message."""
    size = len(message) + 5
    return _DATA_HEAD.pack(size >> 8 & 0xFFFF, size & 0xFF, DATA, 0, stream, 0, size - 5) + message


def message_head(size: int) -> bytes:
    """What comes before a message of `size` bytes in DATA frames."""
    return _MESSAGE_HEAD.pack(0, size)
