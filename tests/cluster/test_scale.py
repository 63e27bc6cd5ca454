"""Many hosts: simulated ones that share processes, and real ones below relays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


CASES = (("simulated_client.py", "200", "50", "1"), ("relays_client.py",))


@pytest.mark.parametrize("case", CASES, ids=lambda case: Path(case[0]).stem)
def test_many_hosts(case: tuple[str, ...]) -> None:
    client, *arguments = case
    command = [sys.executable, HERE / client, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    assert run.stdout.splitlines()[-1] == "ok"
