"""Clients whose JAX is not the workers': the programs of `version_programs.py`, and who is refused.

Each environment is made once and used twice: with JAX and pathwaysutils alone, and then with Polypath.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster_tools import Remains, environment, polypath, start_detached, status_of, unique_name, wait_no_sessions
from environments import dependencies, find_python, install, make_environment, make_wheel

PROGRAMS = Path(__file__).with_name("version_programs.py")
PYTHON_312 = sys.executable if sys.version_info >= (3, 12) else find_python("3.13")
"""From jax 0.11 on there is no Python 3.11."""
NO_PYTHON_312 = "no Python newer than 3.11 here; name one in POLYPATH_TEST_PYTHON313"

OLD = pytest.param(sys.executable, "0.9.0", id="jax-0.9")
NEW = [
    pytest.param(
        PYTHON_312,
        version,
        id=f"jax-{version.rpartition('.')[0]}",
        marks=pytest.mark.skipif(PYTHON_312 is None, reason=NO_PYTHON_312),
    )
    for version in ("0.11.2", "0.12.0")
]
TOO_OLD = "0.8.3"

Environments = Callable[[str, str], "Environment"]


class Environment:
    """A folder with a Python and a JAX; Polypath comes when it is asked for."""

    def __init__(self, folder: Path, python: str, jax: str, wheel: Path) -> None:
        self.jax = jax
        # pathwaysutils as new as goes with that jax.
        self.python = make_environment(folder, python, f"jax=={jax}", "pathwaysutils", "flatbuffers")
        self._wheel: Path | None = wheel

    def install_polypath(self) -> None:
        if self._wheel is not None:
            install(self.python, f"jax=={self.jax}", *dependencies())
            install(self.python, "--no-deps", str(self._wheel))
            self._wheel = None

    def run(self, variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.python), *arguments],
            env=environment(variables),
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    def run_programs(self, variables: dict[str, str], *arguments: str) -> None:
        """All programs, none of which may fail."""
        done = self.run(variables, str(PROGRAMS), *arguments)
        assert done.returncode == 0, done.stderr[-4000:]
        report = json.loads(done.stdout.splitlines()[-1])  # jaxlib 0.11.2 prints where an error came from
        assert report.pop("jax") == self.jax
        failed = {name: text for name, text in report.items() if text}
        assert len(report) > 20
        assert not failed, "\n".join(f"{name}: {text}" for name, text in failed.items())


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    """The environment with a Python and a jax; each is made once."""
    made: dict[tuple[str, str], Environment] = {}
    wheel = make_wheel(tmp_path_factory.mktemp("wheel"))

    def make(python: str, jax: str) -> Environment:
        key = python, jax
        if key not in made:
            made[key] = Environment(tmp_path_factory.mktemp("environment"), python, jax, wheel)
        return made[key]

    return make


@pytest.fixture(scope="module")
def wide(place: Path) -> Iterator[str]:
    """The name of a cluster of 2 hosts with 4 devices each."""
    name = unique_name()
    start_detached(name, "--hosts", "2", "--devices-per-host", "4")
    try:
        remains = Remains(name)
        yield name
    finally:
        polypath("down", "--name", name)
    remains.check_nothing_left()


@pytest.fixture(scope="module")
def wide_variables(wide: str) -> dict[str, str]:
    return json.loads(polypath("env", "--json", "--name", wide).stdout)


def assert_all_is_well(cluster: str) -> None:
    """No client's values, programs or worker were lost on the way."""
    controller = wait_no_sessions(cluster)["controller"]
    assert controller["values"] == 0
    assert {host["state"] for host in controller["hosts"]} == {"up"}


@pytest.mark.parametrize(("python", "jax"), [OLD, *NEW])
@pytest.mark.timeout(600)
def test_stock_clients(
    environments: Environments, wide: str, wide_variables: dict[str, str], python: str, jax: str
) -> None:
    environments(python, jax).run_programs(wide_variables, "--pathwaysutils")
    assert_all_is_well(wide)


@pytest.mark.parametrize(("python", "jax"), [OLD, *NEW])
@pytest.mark.timeout(600)
def test_clients_with_polypath(
    environments: Environments, wide: str, wide_variables: dict[str, str], python: str, jax: str
) -> None:
    client = environments(python, jax)
    client.install_polypath()
    client.run_programs(wide_variables)
    assert_all_is_well(wide)


@pytest.mark.timeout(600)
def test_workers_refuse_another_jax(environments: Environments) -> None:
    client = environments(sys.executable, "0.9.0")
    client.install_polypath()
    done = client.run({}, "-m", "polypath.cli", "up", "--platform", "cpu", "--name", unique_name())
    assert done.returncode == 1
    assert "Polypath's workers need jax>=0.10.2,<0.11, and this environment has jax 0.9.0" in done.stderr


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="jax 0.8 is older than this Python")
@pytest.mark.timeout(600)
def test_older_clients_are_refused(environments: Environments, wide: str, wide_variables: dict[str, str]) -> None:
    client = environments(sys.executable, TOO_OLD)
    initialize = "import pathwaysutils; pathwaysutils.initialize(); import jax; jax.devices()"
    # It asks again for as long as it may, whatever the answer.
    done = client.run(wide_variables | {"PATHWAYS_PROXY_CONNECTION_TIMEOUT_SECS": "2"}, "-c", initialize)
    assert done.returncode == 1
    assert "its jax is too old for this cluster" in done.stderr
    assert "install jax 0.9 to 0.12 where the client runs" in done.stderr

    client.install_polypath()
    done = client.run(wide_variables, "-c", "import jax; jax.devices()")
    assert done.returncode == 1
    assert f"Polypath's client supports jax 0.9 to 0.12, and this is jax {TOO_OLD}: install" in done.stderr
    assert not status_of(wide)["controller"]["sessions"]
