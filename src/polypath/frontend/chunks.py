"""Messages that are one field of bytes: chunks of host buffers, read and written without copying them.

protobuf's library copies what it parses and what it serializes, each twice; that is all it would do here.
"""

from __future__ import annotations

from typing import Final

from polypath.frontend.refused import Buffer, parse
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.protos import varint

_FIELD: Final = 0x0A
"""Field 1, with a length: `data` of a request to store and of a response to a lookup."""
_MOST_DIGITS: Final = 5
"""Of a length, which have 7 bits each."""


def read_chunk(message: Buffer) -> Buffer:
    """The bytes in a `GrpcHostBufferStoreRequest`.

    Raises:
        Refused: it is none.
    """
    if len(message) and message[0] == _FIELD:
        size = 0
        for digit, byte in enumerate(message[1 : 1 + _MOST_DIGITS]):
            size |= (byte & 0x7F) << 7 * digit
            if byte < 0x80:
                if 2 + digit + size == len(message):
                    return memoryview(message)[2 + digit :]
                break
    return parse(pb.GrpcHostBufferStoreRequest, message, "a chunk of a host buffer").data


def chunk_head(size: int) -> bytes:
    """What comes before the bytes in a `GrpcHostBufferLookupResponse`."""
    return bytes((_FIELD,)) + varint(size) if size else b""
