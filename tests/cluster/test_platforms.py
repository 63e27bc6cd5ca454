"""What a cluster of other devices than CPUs is to JAX, by devices that only say they are those."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).with_name("platform_client.py")


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
def test_programs_for_other_devices(place: Path, platform: str) -> None:
    run = subprocess.run([sys.executable, CLIENT, platform], capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    assert run.stdout.splitlines()[-1] == "ok"
