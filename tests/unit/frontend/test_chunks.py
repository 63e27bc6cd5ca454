"""Chunks of host buffers: what is read and written by hand is what protobuf reads and writes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypath.frontend.chunks import chunk_head, read_chunk
from polypath.frontend.refused import Refused
from polypath.frontend.wire import ifrt_pb2 as pb


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 16_383, 16_384, 1 << 20, (1 << 21) + 1])
def test_chunks_of_all_sizes(size: int) -> None:
    data = bytes(size)
    stored = pb.GrpcHostBufferStoreRequest(data=data).SerializeToString()
    assert read_chunk(stored) == read_chunk(bytearray(stored)) == data
    assert chunk_head(size) + data == pb.GrpcHostBufferLookupResponse(data=data).SerializeToString()


@given(st.one_of(st.binary(max_size=20), st.binary(max_size=20).map(lambda data: b"\x0a" + data)))
def test_whatever_comes_is_what_protobuf_says_it_is(message: bytes) -> None:
    expected = pb.GrpcHostBufferStoreRequest()
    found = None
    with contextlib.suppress(Refused):
        found = read_chunk(message)
    try:
        expected.ParseFromString(message)
    except Exception:
        assert found is None
    else:
        assert found == expected.data
