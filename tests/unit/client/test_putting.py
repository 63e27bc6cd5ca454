"""Numpy's arrays are copied on their way up, or waited for."""

import subprocess
import sys
from pathlib import Path

PROGRAM = str(Path(__file__).with_name("putting_program.py"))


def test_what_reaches_the_client() -> None:
    variables = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, PROGRAM], env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
