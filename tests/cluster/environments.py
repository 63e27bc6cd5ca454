"""Environments with another JAX than ours, for tests of clients: made before the tests, from locks in `tests/locks`.

`python tests/cluster/environments.py` makes all that this machine has a Python for, in the folder `environments` of the
environment that it runs in; with `--lock` it pins them anew. Each has JAX and pathwaysutils alone. What Polypath needs
besides is in a folder in it, and joins by `PYTHONPATH`.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "tests" / "locks"
POLYPATH = LOCKS / "polypath.lock"
"""What Polypath depends on, but for jax and what jax brings."""


class Environment(NamedTuple):
    """A Python with a JAX."""

    jax: str
    pythons: tuple[str, str]
    """The oldest and the newest that have this JAX."""

    @property
    def lock(self) -> Path:
        return LOCKS / f"jax-{self.jax}.lock"

    @property
    def folder(self) -> Path:
        return Path(sys.prefix) / "environments" / f"jax-{self.jax}"

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def dependencies(self) -> Path:
        return self.folder / "polypath"

    def find_python(self) -> str | None:
        """Ours where it has this JAX, else the newest that is here."""
        oldest, newest = (tuple(map(int, version.split("."))) for version in self.pythons)
        if oldest <= sys.version_info[:2] <= newest:
            return sys.executable
        found = subprocess.run(
            [ROOT / "scripts/find-python", self.pythons[0]], stdout=subprocess.PIPE, text=True, check=False
        )
        return found.stdout.strip() or None if sys.version_info[:2] < oldest else None

    @property
    def why_not(self) -> str | None:
        """Why this machine cannot have it."""
        if self.find_python() is not None:
            return None
        return f"no Python for jax {self.jax} is here: name a newer one in POLYPATH_NEWEST_PYTHON"

    def variables(self, polypath: Path) -> dict[str, str]:
        """With which its Python has Polypath, which `unpack_wheel` put there."""
        return {"PYTHONPATH": f"{polypath}{os.pathsep}{self.dependencies}"}


OLDER = Environment("0.8.3", ("3.11", "3.13"))
"""Older than what clients may have."""
OLD = Environment("0.9.0", ("3.11", "3.14"))
SAME = Environment("0.10.2", ("3.11", "3.14"))
NEW = Environment("0.11.2", ("3.12", "3.14"))
NEWEST = Environment("0.12.0", ("3.12", "3.14"))
ENVIRONMENTS = (OLDER, OLD, SAME, NEW, NEWEST)


def param(environment: Environment) -> object:
    """For `pytest.mark.parametrize`: skipped, with the reason, where it cannot be."""
    reason = environment.why_not
    return pytest.param(
        environment,
        id=f"jax-{environment.jax}",
        marks=pytest.mark.skipif(reason is not None, reason=str(reason)),
    )


def unpack_wheel(folder: Path) -> Path:
    """Polypath as it is installed from its wheel, which is built from this checkout; installs nothing."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheel")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "wheel").iterdir()
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "polypath")
    return folder / "polypath"


def _make(environment: Environment) -> None:
    python = environment.find_python()
    if python is None:
        print(f"Tests of clients with jax {environment.jax} are skipped: {environment.why_not}.")
        return
    stamp = environment.folder / ".installed"
    made_of = hashlib.sha256(python.encode() + environment.lock.read_bytes() + POLYPATH.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == made_of:
        return
    shutil.rmtree(environment.folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", environment.folder], check=True)
    install = [environment.python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    install += ["--require-hashes", "-r"]
    subprocess.run([*install, environment.lock], check=True)
    subprocess.run([*install, POLYPATH, "--target", environment.dependencies], check=True)
    stamp.write_text(made_of)


def _lock(environment: Environment, compile_with: list[str]) -> None:
    wanted = f"jax=={environment.jax}\nflatbuffers\npathwaysutils\n"  # pathwaysutils as new as goes with that jax
    command = [*compile_with, "-", "--python-version", environment.pythons[0], "-o", str(environment.lock)]
    subprocess.run(command, input=wanted, text=True, check=True)


def main() -> None:
    if sys.argv[1:] == ["--lock"]:
        compile_with = shlex.split(os.environ["UV"])
        for environment in ENVIRONMENTS:
            _lock(environment, compile_with)
        brought = ("jax", "jaxlib", "ml-dtypes", "numpy", "opt-einsum", "scipy")
        command = [*compile_with, "pyproject.toml", "--python-version", "3.11", "-o", str(POLYPATH)]
        command += [f"--no-emit-package={name}" for name in brought]
        subprocess.run(command, cwd=ROOT, check=True)
    else:
        for environment in ENVIRONMENTS:
            _make(environment)


if __name__ == "__main__":
    main()
