"""`import polypath.torch` changes nothing for what stays on the CPU: `programs/cpu.py` with and without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

PROGRAM = Path(__file__).parent / "programs" / "cpu.py"


def seen(*arguments: str) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], capture_output=True, check=False, text=True, timeout=240
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_the_import_changes_only_that_there_is_an_accelerator() -> None:
    before, after = seen(), seen("--imported")
    # There is one now, as on every machine with one ...
    assert before.pop("accelerator")[0] in (["None", False, 0], ["cuda", False, 0])  # the latter in a build for CUDA
    assert after.pop("accelerator")[0] == ["polypath", True, 1]
    # ... so a loader that pins no longer warns that there is none, and gives the same batches.
    batches, (warning,) = before.pop("pinned_loader")
    assert "no accelerator is found" in warning
    assert after.pop("pinned_loader") == [batches, []]
    assert before.pop("kernels") == [[], []]
    assert after.pop("kernels") == [["aten::_pin_memory CPU"], []]
    assert set(before) == set(after)
    for name, behaviour in before.items():
        assert after[name] == behaviour, name
