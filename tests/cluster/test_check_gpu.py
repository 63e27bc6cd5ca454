"""`scripts/check-gpu`: in full where there is a GPU, and what it can check of CPUs where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check-gpu"
ARGUMENTS = ("--platform", "cuda") if [*Path("/dev").glob("nvidia[0-9]*")] else ("--platform", "cpu", "--short")


@pytest.mark.timeout(600)
def test_every_check_passes(place: Path) -> None:
    run = subprocess.run([sys.executable, SCRIPT, *ARGUMENTS], capture_output=True, text=True, timeout=580, check=False)
    assert run.returncode == 0, run.stdout + run.stderr[-4000:]
    assert "recovery" in run.stdout
