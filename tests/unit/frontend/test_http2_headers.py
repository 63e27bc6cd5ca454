"""Header blocks mean what the decoder's table holds when they come."""

from __future__ import annotations

import hpack
from hypothesis import given
from hypothesis import strategies as st

from polypath.frontend import http2_frames as h2
from polypath.frontend.http2_headers import HeaderReader

FIELDS = st.tuples(st.sampled_from((":path", "te", "user-agent")), st.sampled_from("abcd"))


@given(st.lists(st.lists(FIELDS, min_size=1, max_size=4, unique_by=lambda field: field[0]), max_size=40))
def test_the_same_bytes_are_read_anew_after_the_table_changed(calls: list[list[tuple[str, str]]]) -> None:
    encoder, reader = hpack.Encoder(), HeaderReader()
    for number, fields in enumerate(calls):
        block = encoder.encode(fields)
        headers = reader.feed(h2.Frame(h2.HEADERS, h2.END_HEADERS, 2 * number + 1, block))
        assert headers is not None
        assert headers.fields == {name: value.encode() for name, value in fields}
