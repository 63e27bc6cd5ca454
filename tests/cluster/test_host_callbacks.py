"""Functions of a client that programs call: while others work, when the client goes, and without Polypath."""

from __future__ import annotations

import signal

import psutil
from cluster_tools import Client, run_program, status_of, wait_no_sessions


def test_a_function_that_waits_stops_only_what_needs_it(cluster: str, variables: dict[str, str]) -> None:
    with Client.program("called_client.py", variables=variables) as client:
        assert client.hear() == "called"
        assert client.hear() == "9.0"
        assert run_program("brief_client.py", variables=variables) == ""
        client.say("go on")
        status, out, err = client.end()
    assert status == 0, err
    assert out == "[2.0, 1.0, 2.0, 3.0] [3.0] [0.0, 5.0, 10.0, 15.0] True\n"


def test_a_client_that_dies_in_its_function_hangs_nobody(cluster: str, variables: dict[str, str]) -> None:
    pids = [host["pid"] for host in status_of(cluster)["controller"]["hosts"]]
    with Client.program("called_client.py", variables=variables) as client:
        assert client.hear() == "called"
        client.signal(signal.SIGKILL)
        client.end()
    assert run_program("everywhere_client.py", variables=variables) == "6.0\n"
    controller = wait_no_sessions(cluster)["controller"]
    assert controller["values"] == controller["executables"] == 0
    assert [host["pid"] for host in controller["hosts"]] == pids


def test_functions_go_with_their_programs(cluster: str, variables: dict[str, str]) -> None:
    assert int(run_program("functions_client.py", variables=variables)) < 20


def test_stock_jax_refuses_in_its_own_words(cluster: str, variables: dict[str, str]) -> None:
    assert "Unsupported host callback type" in run_program("stock_callback_client.py", variables=variables)


def test_donation_frees_memory(cluster: str, variables: dict[str, str]) -> None:
    pids = [str(host["pid"]) for host in status_of(cluster)["controller"]["hosts"]]
    assert all(psutil.pid_exists(int(pid)) for pid in pids)
    grown = float(run_program("donating_client.py", *pids, variables=variables))
    # Two results more than before; had donation freed nothing, it were 22.
    assert 1.5 < grown < 3.5


def test_a_cluster_is_left_once_functions_have_ended(cluster: str, variables: dict[str, str]) -> None:
    with Client.program("closing_client.py", cluster) as client:
        status, out, err = client.end()
    assert (status, out.splitlines()) == (0, ["late 1.0", "late 2.0", "left", "left"]), err
    assert "A program was still running when the cluster was left, and failed: ValueError: mine" in err
