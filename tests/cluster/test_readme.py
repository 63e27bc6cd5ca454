"""The README's examples do what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def run_example(number: int) -> str:
    example = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[number]
    run = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=200, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def test_the_first_example() -> None:
    assert run_example(0).split() == ["[2240.", "2472.", "2720.", "2984.]"]


def test_the_example_with_pytorch() -> None:
    assert 1 < float(run_example(1)) < 4  # The logarithm of 8 classes is 2.1.
