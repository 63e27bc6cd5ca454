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
