"""Environments with another JAX than ours, made from the package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from cluster_tools import environment

ROOT = Path(__file__).parents[2]
PATHWAYSUTILS = "pathwaysutils==0.1.13"


def find_python(version: str) -> str | None:
    """A Python of that version that runs (pyenv puts stand-ins on the path that do not)."""
    kept_by_pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for python in (os.environ.get("POLYPATH_TEST_PYTHON313"), shutil.which(f"python{version}"), *kept_by_pyenv):
        if python and subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0:
            return str(python)
    return None


def make_environment(folder: Path, python: str, *packages: str) -> Path:
    """Its interpreter."""
    _run(python, "-m", "venv", str(folder))
    interpreter = folder / "bin/python"
    install(interpreter, *packages)
    return interpreter


def install(interpreter: Path, *arguments: str) -> None:
    """As `pip install` does."""
    _run(str(interpreter), "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments)


def make_wheel(folder: Path) -> Path:
    """Polypath's."""
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("polypath-*.whl")
    return wheel


def dependencies() -> list[str]:
    """What Polypath depends on, but for jax."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [name for name in project["dependencies"] if not name.startswith("jax")]


def _run(*command: str) -> None:
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
