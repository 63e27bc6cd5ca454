"""The headers of gRPC's calls in HTTP/2: read over one frame or several, and written.

The decoder's state is the connection's, so every block is read, also that of a call which is
refused. What is written keeps no state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import quote

import hpack

from polypath.frontend import http2_frames as h2
from polypath.frontend.http2_frames import Broken, Error, Frame
from polypath.types import Failure


class Headers(NamedTuple):
    """What opens a call, or ends what the client sends in it."""

    stream: int
    fields: dict[str, bytes]
    """Of those that come twice, the first."""
    end: bool
    """Nothing comes after them."""


class HeaderReader:
    """Puts one connection's header blocks together and decodes them."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(h2.MOST_HEADERS)
        self._stream = 0
        self._flags = 0
        self._block = bytearray()
        self._known: dict[bytes, dict[str, bytes]] = {}
        """By block, the headers of calls that named all of them by their places in the decoder's table as it is."""

    @property
    def unfinished(self) -> bool:
        """Whether the next frame has to go on with the headers."""
        return self._stream != 0

    def feed(self, frame: Frame) -> Headers | None:
        """Take a HEADERS or CONTINUATION frame; return the headers once they are whole.

        Raises:
            Broken: they are no headers, or too many.
        """
        if frame.kind == h2.HEADERS:
            if frame.stream % 2 == 0:
                raise Broken(Error.PROTOCOL_ERROR, f"A client cannot open stream {frame.stream}.")
            self._stream, self._flags = frame.stream, frame.flags
            self._block += h2.unpad(frame)
        else:
            if self._stream == 0 or self._stream != frame.stream:
                raise Broken(Error.PROTOCOL_ERROR, "Headers are continued that were not begun.")
            if not frame.payload and not frame.flags & h2.END_HEADERS:
                raise Broken(Error.ENHANCE_YOUR_CALM, "Headers are continued with nothing.")
            self._block += frame.payload
        if len(self._block) > h2.MOST_HEADERS:
            raise Broken(Error.ENHANCE_YOUR_CALM, "The headers are too long.")
        if not frame.flags & h2.END_HEADERS:
            return None
        headers = Headers(self._stream, self._decode(), bool(self._flags & h2.END_STREAM))
        self._stream = 0
        self._block.clear()
        return headers

    def _decode(self) -> dict[str, bytes]:
        block = bytes(self._block)
        if (known := self._known.get(block)) is not None:
            return known
        found = self._decode_anew(block)
        only_places = block and min(block) >= _ONE_BYTE_INDEX and max(block) < _LONGER_INDEX
        if not only_places or len(self._known) >= _KEPT:
            self._known.clear()  # Other blocks may have changed the table.
        if only_places:
            self._known[block] = found
        return found

    def _decode_anew(self, block: bytes) -> dict[str, bytes]:
        try:
            pairs = self._decoder.decode(block, raw=True)
        except hpack.OversizedHeaderListError as error:
            raise Broken(Error.ENHANCE_YOUR_CALM, "The headers are too long.") from error
        except hpack.HPACKError as error:
            raise Broken(Error.COMPRESSION_ERROR, f"The headers cannot be read: {error}.") from error
        found: dict[str, bytes] = {}
        for name, value in pairs:
            found.setdefault(bytes(name).decode("latin-1"), bytes(value))
        return found


_ONE_BYTE_INDEX: Final = 0x80
"""From here on a byte is a header's place in the table."""
_LONGER_INDEX: Final = 0xFF
"""Of a place that goes on in the next byte."""
_KEPT: Final = 16
_PRINTABLE: Final = "".join(chr(c) for c in range(0x20, 0x7F) if c != ord("%"))
_MOST_TEXT: Final = 4096
"""Bytes of a failure's message: clients refuse headers of more than 8 KiB."""


def _headers(stream: int, flags: int, fields: Iterable[tuple[str, str]]) -> bytes:
    # Never indexed, so that the encoder keeps no state and the order of calls does not matter.
    block = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields], huffman=False)
    return h2.frame(h2.HEADERS, flags | h2.END_HEADERS, stream, block)


_RESPONSE: Final = ((":status", "200"), ("content-type", "application/grpc"))
_RESPONSE_BLOCK: Final = _headers(1, 0, _RESPONSE)[9:]


def response_headers(stream: int) -> bytes:
    """What comes before the first message."""
    return h2.frame(h2.HEADERS, h2.END_HEADERS, stream, _RESPONSE_BLOCK)


def trailers(stream: int, failure: Failure | None, *, begun: bool) -> bytes:
    """The end of a call; the whole response where it has not `begun`."""
    fields = [] if begun else list(_RESPONSE)
    fields.append(("grpc-status", str(int(failure.code) if failure else 0)))
    if failure:
        fields.append(("grpc-message", quote(failure.message, safe=_PRINTABLE)[:_MOST_TEXT]))
    return _headers(stream, h2.END_STREAM, fields)
