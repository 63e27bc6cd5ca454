"""The folder of compiled programs: what is in it is loaded, so nobody else may write there."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from polypath.worker.cache import Cache


def test_an_entry_is_found_again_in_a_private_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "polypath"
    Cache(str(folder)).save("key", b"program")
    assert Cache(str(folder)).load("key") == b"program"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_cache_that_others_may_write_to_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Cache(str(tmp_path / "polypath")).save("key", b"planted")
    (tmp_path / "polypath").chmod(0o777)
    cache = Cache(str(tmp_path / "polypath"))
    assert "No compiled program is kept: Other users may enter" in caplog.text
    assert cache.load("key") is None
    cache.save("other", b"program")
    with cache.alone("key"):
        pass
    assert [path.name for path in (tmp_path / "polypath").iterdir()] == ["key"]


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    cache = Cache(str(tmp_path / "file" / "polypath"))
    assert "is in the way" in caplog.text
    cache.save("key", b"program")
    assert cache.load("key") is None
