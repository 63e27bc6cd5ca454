"""Functions that never return keep no process from ending."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from cluster_tools import POLYPATH, Client, Remains, run_program, status_of, unique_name, wait_no_sessions

CLIENT = Path(__file__).with_name("stuck_client.py")


def interrupt(command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
    """Press Ctrl-C once the function was called: the process ends by itself."""
    with Client(command, variables) as client:
        assert client.hear() == "called"
        client.signal(signal.SIGINT)
        status, out, err = client.end()
        assert status == 0, err
        assert sorted({*out.split(), "called"}) == ["called", "leaving"]  # Other devices call whenever they come to it.
        assert "Exception ignored" not in err


@pytest.mark.parametrize(
    "case", ["result", "function_in_c", "shards", "many", "effects", "ordered_effects", "partitioner"]
)
def test_a_function_of_the_client(cluster: str, variables: dict[str, str], case: str) -> None:
    pids = [host["pid"] for host in status_of(cluster)["controller"]["hosts"]]
    interrupt([sys.executable, str(CLIENT), case], variables)
    assert (
        run_program("everywhere_client.py", variables=variables) == "6.0\n"
    )  # The workers are free again, and the same.
    assert [host["pid"] for host in wait_no_sessions(cluster)["controller"]["hosts"]] == pids


def test_ctrl_c_ends_only_the_wait(cluster: str, variables: dict[str, str]) -> None:
    with Client([sys.executable, str(CLIENT), "goes_on"], variables) as client:
        assert client.hear() == "called"
        client.signal(signal.SIGINT)
        assert client.hear() == "interrupted"
        client.say("go on")
        status, out, err = client.end()
        assert (status, out, err) == (0, "", ""), err


@pytest.mark.parametrize("case", ["colocated", "result"])
def test_a_cluster_of_its_own_ends_too(place: Path, case: str) -> None:
    name = unique_name()
    run = [*POLYPATH, "run", "--name", name, "--platform", "cpu", "--hosts", "2", str(CLIENT), case]
    with Client(run) as client:
        assert client.hear() == "called"
        remains = Remains(name)
        client.signal(signal.SIGINT)
        status, out, err = client.end()
        assert (status, out) == (0, "leaving\n"), err
    remains.check_nothing_left()
