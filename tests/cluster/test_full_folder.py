"""A runtime folder without room: each step of a start that meets it says so in one sentence, and nothing is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_tools import TIMEOUT, UNSHARE, can_mount

ENOUGH = "14"
"""Files and folders of a cluster of one simulated host, with its relay."""


@pytest.mark.skipif(not can_mount(), reason="only root, where the kernel allows it, can mount a folder that is full")
def test_a_folder_without_room_is_told_in_one_sentence(place: Path) -> None:
    folder = place / "full"
    folder.mkdir()
    # The folder itself is one. It ends at: the cluster's folder, its lock, its logs, the head's socket, a relay's log,
    # a relay's socket.
    tried = ["1", "2", "5", "7", "8", "9", ENOUGH]
    command = [*UNSHARE, sys.executable, str(Path(__file__).with_name("full_folder.py")), str(folder), *tried]
    run = subprocess.run(command, capture_output=True, text=True, timeout=len(tried) * TIMEOUT, check=False)
    folder.rmdir()
    assert run.returncode == 0, run.stderr
    *refused, up = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(refused) == len(tried) - 1
    for each in refused:
        assert each["status"] == 1, each
        assert each["said"].startswith("polypath: "), each
        assert "No space left on device" in each["said"], each
        assert each["said"].count("\n") == 1, each
        assert each["left"] == [], each
    assert (up["status"], up["left"]) == (0, []), up
    assert not list(Path("/dev/shm").glob("polypath-full-*"))
