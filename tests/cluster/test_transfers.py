"""Arrays between a client and its workers: right whatever they are, and past the head's process where there are links.

`way` is each of the two ways that a client's arrays can go.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_tools import (
    Client,
    Remains,
    Way,
    polypath,
    run_program,
    shared_folder,
    start_detached,
    status_of,
    unique_name,
    wait_no_sessions,
)

REUSED = str(Path(__file__).with_name("reused_client.py"))


def moved(name: str) -> int:
    """Bytes that passed through the head's process."""
    status: dict[str, Any] = status_of(name)
    transport, frontend = status["transport"], status["frontend"]
    return sum((transport["command_bytes"], transport["report_bytes"], frontend["bytes_up"], frontend["bytes_down"]))


@pytest.fixture(scope="module")
def islands() -> Iterator[str]:
    """The name of a cluster of 2 islands, each of one host with 2 devices."""
    name = unique_name()
    start_detached(name, "--hosts", "2", "--islands", "2", "--devices-per-host", "2")
    try:
        remains = Remains(name)
        yield name
    finally:
        polypath("down", "--name", name)
    remains.check_nothing_left()


def check_nothing_is_left(cluster: str) -> None:
    """Of clients that are gone."""
    totals = wait_no_sessions(cluster)["controller"]
    assert (totals["values"], totals["executables"], totals["pending"]) == (0, 0, 0)
    assert list(shared_folder(cluster).iterdir()) == []


def test_whatever_is_put_comes_back(cluster: str, way: Way) -> None:
    assert run_program("arrays_client.py", way.name, variables=way.variables) == "done\n"
    check_nothing_is_left(cluster)


def test_64_mib_there_and_back(cluster: str, way: Way) -> None:
    """Over links no byte of it passes through the head."""
    before = moved(cluster)
    with Client.program("big_client.py", variables=way.variables) as client:
        assert client.hear() == "done"
        passed = moved(cluster) - before
        assert passed < 1 << 20 if way.name == "links" else passed > 64 << 20
        client.say("")
        assert client.end()[0] == 0
    check_nothing_is_left(cluster)


def test_a_numpy_array_is_the_callers_again_after_the_call(way: Way) -> None:
    most = 4 << 20 if way.name == "links" else 1 << 16
    with Client([sys.executable, REUSED, "20", str(most)], way.variables) as client:
        status, out, err = client.end(240)
    assert status == 0, err
    assert out
    assert [line for line in out.splitlines() if not line.startswith("0 of ")] == []


def test_puts_that_nobody_waits_for_are_bounded(variables: dict[str, str]) -> None:
    assert run_program("unwaited_client.py", variables=variables) == "done\n"


@pytest.mark.parametrize("where", ["send", "receive"])
def test_a_client_that_dies_while_an_array_is_on_its_way(cluster: str, variables: dict[str, str], where: str) -> None:
    with Client.program("dying_client.py", where, variables=variables) as client:
        assert client.hear() == "now"
        assert client.process.wait() == -signal.SIGKILL
    check_nothing_is_left(cluster)
    assert run_program("threads_client.py", variables=variables) == "done\n"


def test_copies_are_the_callers(way: Way) -> None:
    assert run_program("copies_client.py", way.name, variables=way.variables) == "done\n"


def test_islands_copy_past_the_head(islands: str) -> None:
    variables = json.loads(polypath("env", "--json", "--name", islands).stdout)
    with Client.program("islands_client.py", variables=variables) as client:
        client.say("")
        assert client.hear() == "True"
        assert moved(islands) < 1 << 20
        client.say("")
        assert client.end()[0] == 0
