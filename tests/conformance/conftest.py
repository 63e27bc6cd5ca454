"""A cluster of 2 hosts with 4 devices each, and the reports of the programs run on it."""

from __future__ import annotations

import json
import os
import pickle
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

RUNNER = Path(__file__).parent / "run_programs.py"
START_TIMEOUT = 60
MODULE_TIMEOUT = 200
Report = dict[str, Any]


def polypath(*arguments: str) -> str:
    """What the command printed."""
    done = subprocess.run(
        [sys.executable, "-m", "polypath.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"polypath {' '.join(arguments)} failed:\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """The variables with which a script finds the cluster."""
    name = f"conformance-{os.getpid()}-{secrets.token_hex(2)}"
    polypath("up", "--hosts", "2", "--devices-per-host", "4", "--platform", "cpu", "--detach", "--name", name)
    try:
        yield json.loads(polypath("env", "--name", name, "--json"))
    finally:
        polypath("down", "--name", name)


@pytest.fixture(scope="session")
def plain() -> dict[str, str]:
    """The variables of plain JAX with as many virtual devices."""
    return {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}


@pytest.fixture(scope="session")
def report_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, dict[str, str]], Report]:
    """A module's report in an environment; each runs once, when first asked for."""
    reports: dict[tuple[str, str], Report] = {}

    def report(module: str, variables: dict[str, str]) -> Report:
        key = module, json.dumps(variables, sort_keys=True)
        if key not in reports:
            out = tmp_path_factory.mktemp("report") / "report.pkl"
            inherited = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "IFRT_"))}
            done = subprocess.run(
                [sys.executable, str(RUNNER), str(out), module],
                env=inherited | variables,
                capture_output=True,
                text=True,
                timeout=MODULE_TIMEOUT,
                check=False,
            )
            reports[key] = (
                pickle.loads(out.read_bytes())
                if done.returncode == 0
                else {"died": f"{module} exited with {done.returncode}:\n{done.stderr[-4000:]}"}
            )
        if "died" in reports[key]:
            pytest.fail(reports[key]["died"])
        return reports[key]

    return report
