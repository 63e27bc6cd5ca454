"""Workers that are killed: everything that needed them says so, everything else goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).with_name("loss_client.py")


@pytest.mark.parametrize("case", ["one_island", "partitioned", "other_island", "in_flight", "twice", "stuck"])
def test_a_worker_is_killed(case: str) -> None:
    run = subprocess.run([sys.executable, CLIENT, case], capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    assert run.stdout.splitlines()[-1] == "ok"
