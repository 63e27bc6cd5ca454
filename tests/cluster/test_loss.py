"""Workers that are killed: everything that needed them says so, everything else goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cluster_tools import POLYPATH, environment

CLIENT = Path(__file__).with_name("loss_client.py")
RETRY = Path(__file__).with_name("retry_client.py")


@pytest.mark.parametrize("client", ["", "stock"])
@pytest.mark.timeout(300)
def test_the_obvious_retry_succeeds(client: str) -> None:
    arguments = ("--hosts", "2", "--devices-per-host", "2", "--platform", "cpu", RETRY, *client.split())
    command = [*POLYPATH, "run", *map(str, arguments)]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stdout + run.stderr[-4000:]
    assert run.stdout.splitlines()[-1] == "ok"


@pytest.mark.parametrize("case", ["one_island", "partitioned", "other_island", "in_flight", "twice", "stuck"])
def test_a_worker_is_killed(case: str) -> None:
    run = subprocess.run([sys.executable, CLIENT, case], capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    assert run.stdout.splitlines()[-1] == "ok"
