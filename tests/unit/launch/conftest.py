"""Each test has a runtime folder of its own, and leaves no process and no file."""

import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

FAKE_HEAD = str(Path(__file__).with_name("fake_head.py"))


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder whose path JAX and a socket can take, which those of pytest are not."""
    children = set(psutil.Process().children(recursive=True))
    path = Path(f"/tmp/pp-{secrets.token_hex(6)}")
    monkeypatch.setenv("POLYPATH_RUNTIME_DIR", str(path))
    yield path
    left = [str(entry) for entry in (*path.glob("*"), *Path("/dev/shm").glob("polypath-t-*"))]
    shutil.rmtree(path, ignore_errors=True)
    assert not set(psutil.Process().children(recursive=True)) - children, "a process is left"
    assert not left, f"files are left: {left}"


@pytest.fixture
def fake_head() -> list[str]:
    """The command of a fake head, less its mode."""
    return [sys.executable, FAKE_HEAD]
