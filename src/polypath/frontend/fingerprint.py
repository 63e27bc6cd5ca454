"""The number by which XLA's clients know a platform: FarmHash's 64-bit fingerprint of its name.

Source: Geoff Pike's FarmHash (`farmhashna`), for strings of at most 16 bytes.
"""

from __future__ import annotations

from typing import Final

_MASK: Final = (1 << 64) - 1
_K0: Final = 0xC3A5C85C97CB3127
_K2: Final = 0x9AE16A3B2F90404F


def fingerprint64(text: str) -> int:
    """The fingerprint of a platform's name; of a longer text, that of its first 16 bytes."""
    data = text.encode()[:16]
    size = len(data)
    if size >= 8:
        mul = _K2 + size * 2
        a = (int.from_bytes(data[:8], "little") + _K2) & _MASK
        b = int.from_bytes(data[-8:], "little")
        c = (_rotate(b, 37) * mul + a) & _MASK
        d = ((_rotate(a, 25) + b) * mul) & _MASK
        return _mix(c, d, mul)
    if size >= 4:
        a = int.from_bytes(data[:4], "little")
        b = int.from_bytes(data[-4:], "little")
        return _mix((size + (a << 3)) & _MASK, b, _K2 + size * 2)
    if size:
        y = data[0] + (data[size >> 1] << 8)
        z = size + (data[-1] << 2)
        return (_shift((y * _K2 ^ z * _K0) & _MASK) * _K2) & _MASK
    return _K2


def _rotate(value: int, by: int) -> int:
    return (value >> by | value << (64 - by)) & _MASK


def _shift(value: int) -> int:
    return value ^ value >> 47


def _mix(u: int, v: int, mul: int) -> int:
    a = _shift(((u ^ v) * mul) & _MASK)
    b = _shift(((v ^ a) * mul) & _MASK)
    return (b * mul) & _MASK
