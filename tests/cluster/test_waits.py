"""Who waits for an array, or reads a small one, hears from its workers; whatever goes wrong is told as by JAX."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from cluster_tools import Client, Remains, Way, polypath, run_program, start_detached, unique_name, wait_no_sessions

from polypath.frontend import control_client


def test_what_small_arrays_hold_and_what_is_waited_for(way: Way) -> None:
    assert run_program("small_client.py", way.name, variables=way.variables) == "done\n"


def test_programs_that_are_waited_for_one_by_one(way: Way) -> None:
    assert run_program("steps_waited_client.py", variables=way.variables).endswith("done\n")


def test_threads_that_wait_and_read_at_the_same_time(way: Way) -> None:
    assert run_program("threads_client.py", variables=way.variables) == "done\n"


@pytest.mark.parametrize("how", ["block", "float", "array"])
def test_an_interrupted_wait(way: Way, how: str) -> None:
    with Client.program("held_client.py", how, "release", variables=way.variables) as client:
        assert client.hear() == "waiting"
        client.signal(signal.SIGINT)
        assert client.hear().startswith("KeyboardInterrupt")
        assert client.hear() == "done"


@pytest.mark.parametrize("how", ["block", "float", "array"])
def test_the_head_dies_while_somebody_waits(how: str) -> None:
    name = unique_name()
    start_detached(name, "--hosts", "1", "--devices-per-host", "1")
    remains = Remains(name)
    found = json.loads(polypath("env", "--json", "--name", name).stdout)
    with Client.program("held_client.py", how, variables=found) as client:
        assert client.hear() == "waiting"
        remains.kill_head()
        assert client.hear().startswith("JaxRuntimeError")
        assert client.hear() == "done"
    remains.wait_processes()
    polypath("down", "--name", name)


def test_clients_leave_nothing(cluster: str, variables: dict[str, str]) -> None:
    socket = json.loads((Path(os.environ["POLYPATH_RUNTIME_DIR"]) / cluster / "cluster.json").read_bytes())["address"]

    def files() -> list[int]:
        run_program("brief_client.py", variables=variables)
        hosts = wait_no_sessions(cluster)["controller"]["hosts"]
        return [control_client.holdings(socket.removeprefix("grpc://"), host["host"])["files"] for host in hosts]

    before = files()
    assert files() == before
