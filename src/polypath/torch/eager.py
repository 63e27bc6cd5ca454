"""What running operator by operator costs in Python's time, which is told once."""

from __future__ import annotations

import warnings
from typing import Final

MANY_ALONE: Final = 200
"""Operators one by one in a program that are worth a word."""


class EagerWarning(UserWarning):
    """Much ran operator by operator."""


class Eager:
    """The operators that wait for a program and came one by one."""

    def __init__(self) -> None:
        self._count = 0
        self._seconds = 0.0
        self._told = False

    def spend(self, seconds: float) -> None:
        """An operator came by itself, which took so long."""
        self._count += 1
        self._seconds += seconds

    def tell(self) -> None:
        """Say once what they cost, as a program that may have many of them runs again."""
        if self._count >= MANY_ALONE and not self._told:
            self._told = True
            warnings.warn(
                f"{self._count} operators ran one by one, which took {self._seconds * 1e3:.0f} ms of Python before "
                "their program could start; torch.compile saves most of that at each call "
                "(within a function that is compiled, TORCH_LOGS=graph_breaks tells why they were left out).",
                EagerWarning,
                stacklevel=4,
            )

    def clear(self) -> None:
        """Their program has started."""
        self._count, self._seconds = 0, 0.0
