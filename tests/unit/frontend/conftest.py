from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short, lower-case path: sockets' paths are short, and JAX lower-cases its address."""
    with tempfile.TemporaryDirectory(prefix="pp") as name:
        path = Path(name)
        lower = path.with_name(path.name.lower())
        if lower != path:
            path.rename(lower)
        try:
            yield lower
        finally:
            if lower != path:
                lower.rename(path)
