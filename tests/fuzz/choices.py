"""Bytes as a source of choices, the same for Hypothesis and for atheris.

When the bytes end every choice is the first one, so that shorter inputs mean simpler runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")


class Choices:
    """Reads choices from the front of `data`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def exhausted(self) -> bool:
        return self._at >= len(self._data)

    def below(self, limit: int) -> int:
        """A number from 0 to `limit - 1`, which is at most 255."""
        if self.exhausted:
            return 0
        self._at += 1
        return self._data[self._at - 1] % limit

    def of(self, options: Sequence[_T]) -> _T:
        return options[self.below(len(options))]

    def one_in(self, odds: int) -> bool:
        return self.below(odds) == odds - 1

    def take(self, most: int) -> bytes:
        """Up to `most` raw bytes."""
        size = self.below(most + 1)
        found = self._data[self._at : self._at + size]
        self._at += size
        return found

    def rest(self) -> bytes:
        """All raw bytes that are left."""
        found, self._at = self._data[self._at :], len(self._data)
        return found

    def mutated(self, data: bytes) -> bytes:
        """`data` with a few bytes changed, cut out or put in."""
        found = bytearray(data)
        for _ in range(1 + self.below(3)):
            at = (self.below(256) << 8 | self.below(256)) % (len(found) + 1)
            match self.below(4):
                case 0:
                    found[at : at + 1] = bytes((self.below(256),))
                case 1:
                    del found[at : at + 1 + self.below(8)]
                case 2:
                    found[at:at] = self.take(8)
                case _:
                    del found[at:]
        return bytes(found)
