"""A draw of tests that everybody who has the same files repeats."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from polypath.errors import ClusterError


def draw(tests: Mapping[str, Iterable[str]], number: int, seed: int) -> dict[str, list[str]]:
    """So many of the tests of these files, by file, each in its file's order.

    Raises:
        ClusterError: there are not that many.
    """
    every = sorted((file, test) for file, of in tests.items() for test in of)
    if number > len(every):
        raise ClusterError(f"The files have {len(every)} tests, so {number} cannot be drawn: give a smaller number.")
    drawn = set(random.Random(seed).sample(every, number))
    chosen = {file: [test for test in of if (file, test) in drawn] for file, of in tests.items()}
    return {file: of for file, of in chosen.items() if of}
