"""The example, unchanged, on plain JAX and on a cluster: both print the same losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_lm.py"
PNG = b"\x89PNG\r\n\x1a\n"
STEPS = 30


def run(command: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "IFRT_"))}
    return subprocess.run(
        [sys.executable, *command], env=inherited | variables, capture_output=True, text=True, timeout=140, check=False
    )


def printed_losses(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines with a loss, digit for digit."""
    assert done.returncode == 0, done.stderr[-4000:]
    return [line for line in done.stdout.splitlines() if line.startswith("step ")]


@pytest.mark.timeout(300)
def test_losses_agree_to_the_last_digit_printed(tmp_path: Path) -> None:
    arguments = [str(EXAMPLE), "--steps", str(STEPS), "--out"]
    plain = run([*arguments, str(tmp_path / "plain")], {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"})
    launcher = ["-m", "polypath.cli", "run", "--hosts", "2", "--devices-per-host", "4", "--platform", "cpu"]
    cluster = run([*launcher, *arguments, str(tmp_path / "cluster")], {})

    assert printed_losses(cluster) == printed_losses(plain)
    assert len(printed_losses(plain)) == STEPS // 10 + 2
    curves = [(tmp_path / where / "losses.json").read_text() for where in ("plain", "cluster")]
    assert curves[0] == curves[1]

    log = json.loads(curves[0])
    assert len(log["training_loss"]) == STEPS
    assert float(log["training_loss"][-1]) < 3.5 < float(log["training_loss"][0])
    assert (tmp_path / "cluster" / "loss.png").read_bytes().startswith(PNG)
    assert (tmp_path / "cluster" / "sample.txt").read_text() == (tmp_path / "plain" / "sample.txt").read_text()


def test_too_few_devices_is_said_in_one_sentence(tmp_path: Path) -> None:
    variables = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    done = run([str(EXAMPLE), "--out", str(tmp_path)], variables)
    assert done.returncode == 1
    (told,) = done.stderr.strip().splitlines()
    assert "needs 8 devices and JAX finds 2" in told
