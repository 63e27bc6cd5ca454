"""Arrays larger than the machine's shared memory go up and down like others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cluster_tools import TIMEOUT, UNSHARE, can_mount, unique_name

PROGRAM = Path(__file__).with_name("small_shm.py")


@pytest.mark.skipif(not can_mount(), reason="only root, where the kernel allows it, can mount a small /dev/shm")
def test_an_array_larger_than_shared_memory() -> None:
    command = [*UNSHARE, sys.executable, str(PROGRAM), unique_name()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=2 * TIMEOUT, check=False)
    assert run.returncode == 0, run.stderr
    elements = 70 << 18
    assert run.stdout.splitlines() == [f"{elements:.1f} {elements:.1f} {2 * elements:.1f}"] * 2
