"""Other processes and the device: `programs/workers.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

PROGRAM = Path(__file__).parent / "programs" / "workers.py"


def test_what_a_loaders_worker_does_with_tensors_of_the_device_is_told() -> None:
    run = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, check=False, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    told = {case: result for line in run.stdout.splitlines() for case, result in json.loads(line).items()}
    batches = [[[0, 1], [2, 3]]]
    for case in ("of the CPU", "pending elsewhere", "of the CPU, after"):
        assert told[case] == batches
    for case in ("of the device", "moved"):
        assert "This process was forked from one that uses the cluster" in told[case]
        assert "keep tensors of the device out of a DataLoader's workers" in told[case]
    assert "cannot be sent to another process" in told["sent"]
    assert told["here"] == batches[0]
