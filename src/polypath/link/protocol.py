"""What goes over a link: frames, each a head of fixed size, then a note, then elements.

The first frame is the client's HELLO, which WELCOME or BYE answers. From then on either end sends what it has:

| frame   | from   | number           | extra      | note                   | elements                           |
| ------- | ------ | ---------------- | ---------- | ---------------------- | ---------------------------------- |
| HELLO   | client |                  |            | `Hello`                |                                    |
| WELCOME | other  |                  |            | `Welcome` (the head's) |                                    |
| DONE    | worker | of the request   | how many   |                        | of a small array, where asked for  |
| FAILED  | any    | of the request   |            |                        |                                    |
| PIECE   | worker | of the request   |            | `Box`                  | of that part of the array          |
| PUSH    | client | of the request   |            | a device               | of that device's shard             |
| BEAT    | any    |                  |            |                        |                                    |
| BYE     | any    |                  |            | why, as text           |                                    |

A request's number is the client's. DONE is what each of `extra` workers says when it has done its part. FAILED says
that nobody will: the client then asks by the stock protocol, which tells why.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
from typing import Final, NamedTuple

import msgspec

from polypath.types import DeviceId, HostId

HEAD_HOST: Final = -1
"""In `Hello.host`: the head itself."""

_HEAD: Final = struct.Struct("<BxHIQ")
"""Kind, `extra` or the length of the note, number, length of the elements."""
HEAD_BYTES: Final = _HEAD.size
MOST_NOTE: Final = (1 << 16) - 1
"""Bytes of a note."""
MOST_NUMBER: Final = (1 << 24) - 1
"""Of a request: 24 bits, as `polypath.questions` packs it."""

MOST_HOSTS: Final = 64
"""That answer one request: a client has a link to each, and may not have many files open."""


class Kind(enum.IntEnum):
    """Of a frame."""

    HELLO = 1
    WELCOME = 2
    DONE = 3
    FAILED = 4
    PIECE = 5
    PUSH = 6
    BEAT = 7
    BYE = 8


_NOTED: Final = frozenset({Kind.HELLO, Kind.WELCOME, Kind.PIECE, Kind.PUSH, Kind.BYE})
"""Frames with a note; `extra` is its length."""


class Head(NamedTuple):
    """The head of a frame."""

    kind: Kind
    extra: int
    number: int
    size: int
    """Bytes of elements."""

    @property
    def note(self) -> int:
        """Bytes of the note."""
        return self.extra if self.kind in _NOTED else 0


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """Who connects, and to whom."""

    session: str
    host: HostId
    """`HEAD_HOST` for the head."""
    token: str
    """What the head has told the session's client; empty towards the head."""
    tunnel: bool = False
    """The head is to pass all that follows on to the host."""


class HostAddress(msgspec.Struct, frozen=True, array_like=True):
    """Where a host takes links."""

    host: HostId
    address: str
    """`unix:PATH` or `tcp://HOST:PORT`, which is TLS; empty while it is away."""
    devices: tuple[DeviceId, ...]


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """What the head tells a client at first, and again whenever a host comes or goes, which it then names alone."""

    hosts: tuple[HostAddress, ...]
    token: str = ""
    certificate: str = ""
    """By which hosts on other machines are known, in PEM."""
    patience: float = 0.0
    """Seconds of silence after which the cluster's processes, and so the client, give each other up; at first alone."""


class Box(msgspec.Struct, frozen=True, array_like=True):
    """A part of an array."""

    start: tuple[int, ...]
    shape: tuple[int, ...]


def token(secret: str, session: str) -> str:
    """What a client shows a worker: only the cluster's own processes, which know its `secret`, can make it."""
    return hmac.new(secret.encode(), f"link {session}".encode(), hashlib.sha256).hexdigest()


encode: Final = msgspec.msgpack.Encoder().encode
"""A note."""
hellos: Final = msgspec.msgpack.Decoder(Hello)


def pack(kind: Kind, number: int = 0, *, of: int = 0, note: bytes = b"", size: int = 0) -> bytes:
    """A frame without its elements, which follow."""
    return _HEAD.pack(kind, len(note) or of, number, size) + note


def unpack(data: bytes | memoryview) -> Head:
    """The head in `HEAD_BYTES` bytes.

    Raises:
        ValueError: it is none.
    """
    kind, extra, number, size = _HEAD.unpack(data)
    return Head(Kind(kind), extra, number, size)
