"""The frames around a message.

    head to worker    sequence number (8 bytes), command
    worker to head    host, incarnation, kind (4 bytes each), payload
    worker to worker  tag (text), header, data

All integers are little-endian. A frame that does not fit raises `ProtocolError`: the reader
drops it, counts it and says so once.
"""

from __future__ import annotations

import struct
from typing import Final

from polypath.errors import ProtocolError

REPORT: Final = 1
HELLO: Final = 2

_SEQUENCE: Final = struct.Struct("<Q")
_SENDER: Final = struct.Struct("<III")


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
