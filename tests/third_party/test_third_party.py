"""Programs on other libraries, each on plain JAX and on a cluster: what they print must agree.

A program knows nothing of Polypath, nor of these tests: the environment says which devices JAX
finds, and the last line that it prints is JSON.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cluster_tools import environment

PROGRAMS = Path(__file__).parent / "programs"
NAMES = sorted(program.stem for program in PROGRAMS.glob("*.py"))
PROGRAM_TIMEOUT = 280

# Sums over the devices are taken in another order, which steps of training amplify; 2e-7 was the most seen.
TOLERANCE = 1e-5

# What `make test` does not install: how a program's name begins, and the distribution.
LARGE = {"jax_md": "jax-md", "tunix": "google-tunix"}


def require(name: str) -> None:
    """Skip if the program's library is one of the large ones and is not here."""
    for module, distribution in LARGE.items():
        if name.startswith(module) and importlib.util.find_spec(module) is None:
            pytest.skip(f"{distribution} brings too much to install for each test run: pip install {distribution}")


def printed(name: str, variables: dict[str, str], folder: Path) -> Any:
    """The program's results."""
    # No library may look for weights or data elsewhere.
    offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / f"{name}.py")],
        env=environment(variables | offline),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"{name} exited with {done.returncode}:\n{done.stderr[-6000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def assert_agree(got: Any, want: Any, where: str) -> None:
    """Floats within `TOLERANCE` of the largest in their list, everything else equal."""
    assert type(got) is type(want), f"{where}: {got!r}, expected {want!r}"
    if isinstance(want, dict):
        assert sorted(got) == sorted(want), where
        for key in want:
            assert_agree(got[key], want[key], f"{where}[{key!r}]")
    elif isinstance(want, list):
        assert len(got) == len(want), where
        if want and all(isinstance(x, float) for x in want):
            scale = max(abs(x) for x in want)
            assert got == pytest.approx(want, rel=0, abs=TOLERANCE * scale), where
            return
        for index, (a, b) in enumerate(zip(got, want, strict=True)):
            assert_agree(a, b, f"{where}[{index}]")
    elif isinstance(want, float):
        assert got == pytest.approx(want, rel=TOLERANCE), where
    else:
        assert got == want, where


@pytest.mark.timeout(2 * PROGRAM_TIMEOUT + 20)
@pytest.mark.parametrize("name", NAMES)
def test_program_finds_on_a_cluster_what_it_finds_on_plain_jax(
    name: str, plain: dict[str, str], cluster: dict[str, str], tmp_path: Path
) -> None:
    require(name)
    assert_agree(printed(name, cluster, tmp_path), printed(name, plain, tmp_path), name)


def test_every_library_has_a_program() -> None:
    libraries = ("flax", "equinox", "optax", "orbax", "numpyro", "diffrax", "jax_md", "tunix")
    assert {name for name in NAMES if name.startswith(libraries)} == set(NAMES)
    assert all(any(name.startswith(library) for name in NAMES) for library in libraries)
