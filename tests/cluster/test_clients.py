"""Clients of one cluster: side by side, in trouble, and refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from cluster_tools import Client, Way, polypath, run_program, status_of, wait_no_sessions

from polypath.versions import CLIENTS


def test_one_client_vanishes_and_the_other_goes_on(cluster: str, variables: dict[str, str]) -> None:
    def steps(start: int) -> Client:
        return Client.program("counting_client.py", str(start), variables=variables)

    with steps(1) as first, steps(3) as second:
        assert (first.hear(), second.hear()) == ("2.0", "6.0")
        sessions = status_of(cluster)["controller"]["sessions"]
        assert sorted(s["client"].split()[1] for s in sessions) == sorted(
            str(client.process.pid) for client in (first, second)
        )
        assert all(session["arrays"] and session["executables"] for session in sessions)
        first.say("")
        assert first.hear() == "4.0"
        second.signal(signal.SIGKILL)
        second.process.wait()
        for _ in range(20):
            first.say("")
            assert float(first.hear()) > 4
            if len(left := status_of(cluster)["controller"]["sessions"]) == 1:
                break
        assert [session["client"].split()[1] for session in left] == [str(first.process.pid)]
    totals = wait_no_sessions(cluster)["controller"]
    assert (totals["values"], totals["executables"], totals["pending"]) == (0, 0, 0)


def test_what_fails_is_one_clear_error_and_the_session_goes_on(way: Way) -> None:
    assert run_program("trouble_client.py", variables=way.variables) == "done\n"


def test_an_address_with_nobody_there(place: Path, variables: dict[str, str]) -> None:
    stale = variables | {"JAX_BACKEND_TARGET": f"grpc://unix:{place}/gone/ifrt.sock"}
    with Client.program("brief_client.py", variables=stale) as client:
        status, _, err = client.end()
    assert status == 1
    assert (
        f"RuntimeError: Unable to initialize backend 'proxy': No cluster answers at grpc://unix:{place}/gone/ifrt.sock"
        " (No such file or directory): start one with `polypath up`" in err
    )


@pytest.mark.parametrize(
    ("oldest", "newest", "advice"),
    [
        (1, 15, f"install {CLIENTS} where the client runs."),
        (15, 22, f"install {CLIENTS} where the client runs."),  # what jax 0.8 speaks
        (26, 30, f"install {CLIENTS} where the client runs, or a newer polypath where the cluster runs."),
    ],
)
def test_an_unsupported_protocol(variables: dict[str, str], oldest: int, newest: int, advice: str) -> None:
    path = variables["JAX_BACKEND_TARGET"].removeprefix("grpc://unix:")
    said = run_program("version_request.py", path, str(oldest), str(newest))
    assert said.startswith(f"FAILED_PRECONDITION This client speaks IFRT proxy protocol {oldest} to {newest}")
    assert said.rstrip().endswith(advice)


def test_doctor_names_the_cluster(cluster: str) -> None:
    findings = json.loads(polypath("doctor", "--json").stdout)
    assert {"level": "ok", "subject": "clusters"}.items() <= next(
        finding for finding in findings if cluster in finding["text"]
    ).items()
