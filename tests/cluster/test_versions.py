"""Clients whose JAX is not the workers': the programs of `version_programs.py`, and who is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_tools import Remains, environment, polypath, start_detached, status_of, unique_name, wait_no_sessions
from environments import NEW, NEWEST, OLD, OLDER, SAME, Environment, param, unpack_wheel

PROGRAMS = Path(__file__).with_name("version_programs.py")
OTHERS = [param(OLD), param(NEW), param(NEWEST)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Polypath, unpacked from its wheel."""
    return unpack_wheel(tmp_path_factory.mktemp("wheel"))


def run(client: Environment, variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [client.python, *arguments],
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def run_programs(client: Environment, variables: dict[str, str], *arguments: str) -> None:
    """All programs, none of which may fail."""
    done = run(client, variables, str(PROGRAMS), *arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout.splitlines()[-1])  # jaxlib 0.11.2 prints where an error came from
    assert report.pop("jax") == client.jax
    failed = {name: text for name, text in report.items() if text}
    assert len(report) > 20
    assert not failed, "\n".join(f"{name}: {text}" for name, text in failed.items())


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


@pytest.mark.parametrize("client", [*OTHERS, param(SAME)])
@pytest.mark.timeout(600)
def test_stock_clients(wide: str, wide_variables: dict[str, str], client: Environment) -> None:
    run_programs(client, wide_variables, "--pathwaysutils")
    assert_all_is_well(wide)


@pytest.mark.parametrize("client", OTHERS)
@pytest.mark.timeout(600)
def test_clients_with_polypath(wheel: Path, wide: str, wide_variables: dict[str, str], client: Environment) -> None:
    run_programs(client, wide_variables | client.variables(wheel))
    assert_all_is_well(wide)


@pytest.mark.parametrize("client", [param(OLD)])
def test_workers_refuse_another_jax(wheel: Path, client: Environment) -> None:
    done = run(
        client, client.variables(wheel), "-m", "polypath.cli", "up", "--platform", "cpu", "--name", unique_name()
    )
    assert done.returncode == 1
    assert "Polypath's workers need jax>=0.10.2,<0.13, and this environment has jax 0.9.0" in done.stderr


@pytest.mark.parametrize("client", [param(OLDER)])
def test_older_clients_are_refused(wheel: Path, wide: str, wide_variables: dict[str, str], client: Environment) -> None:
    initialize = "import pathwaysutils; pathwaysutils.initialize(); import jax; jax.devices()"
    # It asks again for as long as it may, whatever the answer.
    done = run(client, wide_variables | {"PATHWAYS_PROXY_CONNECTION_TIMEOUT_SECS": "2"}, "-c", initialize)
    assert done.returncode == 1
    assert "its jax is too old for this cluster" in done.stderr
    assert "install jax 0.9 to 0.12 where the client runs" in done.stderr

    done = run(client, wide_variables | client.variables(wheel), "-c", "import jax; jax.devices()")
    assert done.returncode == 1
    assert f"Polypath's client supports jax 0.9 to 0.12, and this is jax {client.jax}: install" in done.stderr
    assert not status_of(wide)["controller"]["sessions"]
