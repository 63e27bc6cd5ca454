"""The codec: what is no message is a `DecodeError`, whatever is wrong with it."""

from __future__ import annotations

import msgspec
import pytest

from polypath import messages


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\x91\xa5Never",
        b"\x93\xa8Snapshot\xa1\xff\xcb" + bytes(8),  # a path that is no UTF-8
        b"\x92\xa8Snapshot" + b"\x91" * 100_000,  # nested deeper than the interpreter allows
        b"\x92\xa6Forget\xdd\xff\xff\xff\xff",  # a list of four billion that ends here
    ],
)
def test_what_is_no_command(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        messages.decode_command(data)


@pytest.mark.parametrize("size", [0, 1, 255, 65_535, 65_536, 70_000])
def test_a_message_in_two_parts_is_the_message(size: int) -> None:
    data = memoryview(bytes(size))
    buffer = messages.HostBuffer((size,), None, (0, 1), data)
    put = messages.Put(1, "uint8", (size,), "device", b"x", (buffer,))
    fetched = messages.Fetched(1, 2, messages.Memory(data))
    small = messages.Put(1, "uint8", (size,), "device", None, (buffer, buffer))
    for message in (put, fetched, small, messages.Forget((1,))):
        head, tail = messages.encode_apart(message)
        decode = messages.decode_report if message is fetched else messages.decode_command
        assert decode(head + tail) == message
        assert len(tail) == (size if size >= 65_536 and message in (put, fetched) else 0)
