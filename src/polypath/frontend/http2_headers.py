"""The headers of gRPC's calls in HTTP/2, read and written.

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
    """Decodes one connection's header blocks."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(h2.MOST_HEADERS)

    def read(self, frame: Frame) -> Headers:
        """What a HEADERS frame says.

        Raises:
            Broken: they are no headers, or too many.
        """
        if frame.stream % 2 == 0:
            raise Broken(Error.PROTOCOL_ERROR, f"A client cannot open stream {frame.stream}.")
        if not frame.flags & h2.END_HEADERS:
            raise Broken(Error.ENHANCE_YOUR_CALM, "The headers go on in another frame, which gRPC's clients need not.")
        try:
            pairs = self._decoder.decode(bytes(frame.payload), raw=True)
        except hpack.OversizedHeaderListError as error:
            raise Broken(Error.ENHANCE_YOUR_CALM, "The headers are too long.") from error
        except hpack.HPACKError as error:
            raise Broken(Error.COMPRESSION_ERROR, f"The headers cannot be read: {error}.") from error
        found: dict[str, bytes] = {}
        for name, value in pairs:
            found.setdefault(bytes(name).decode("latin-1"), bytes(value))
        return Headers(frame.stream, found, bool(frame.flags & h2.END_STREAM))


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
