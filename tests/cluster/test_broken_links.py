"""Whatever keeps a link from carrying what it should: the user gets the right values, over another way if need be."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_tools import (
    HERE,
    UNSHARE,
    Client,
    Remains,
    can_mount,
    polypath,
    run_program,
    start_detached,
    status_of,
    unique_name,
    wait_no_sessions,
)

HEARTBEAT = "POLYPATH_HEARTBEAT"


def folder_of(name: str) -> Path:
    return Path(os.environ["POLYPATH_RUNTIME_DIR"]) / name


@pytest.fixture
def hidden(cluster: str) -> Iterator[None]:
    """The workers' sockets for links are not where they were."""
    moved = {path: path.with_suffix(".aside") for path in folder_of(cluster).glob("*.*.link")}
    assert moved
    for path, aside in moved.items():
        path.rename(aside)
    yield
    for path, aside in moved.items():
        aside.rename(path)


def test_an_interrupted_put(cluster: str, variables: dict[str, str]) -> None:
    (*_, host) = status_of(cluster)["controller"]["hosts"]
    try:
        with Client.program("interrupted_put_client.py", str(host["pid"]), variables=variables) as client:
            assert client.hear() == "sending"
            client.signal(signal.SIGINT)
            status, out, err = client.end()
    finally:
        os.kill(host["pid"], signal.SIGCONT)
    assert (status, out) == (0, "interrupted\ndone\n"), err
    assert wait_no_sessions(cluster)["controller"]["values"] == 0


def test_no_file_can_be_opened(variables: dict[str, str]) -> None:
    assert run_program("full_table_client.py", variables=variables) == "done\n"


@pytest.mark.usefixtures("hidden")
def test_the_workers_sockets_are_gone(variables: dict[str, str]) -> None:
    assert run_program("copies_client.py", "jaxlib", variables=variables) == "done\n"


@pytest.mark.skipif(not can_mount(), reason="only root, where the kernel allows it, can hide files from one process")
def test_workers_that_only_the_head_reaches(cluster: str, variables: dict[str, str]) -> None:
    command = [*UNSHARE, sys.executable, str(HERE / "hidden_client.py"), str(folder_of(cluster))]
    with Client([*command, str(HERE / "arrays_client.py"), "links"], variables) as client:
        status, out, err = client.end()
    assert (status, out) == (0, "done\n"), err


def test_a_link_that_breaks_in_the_middle_of_an_array(cluster: str, variables: dict[str, str]) -> None:
    assert run_program("broken_link_client.py", variables=variables) == "done\n"
    assert wait_no_sessions(cluster)["controller"]["values"] == 0


def test_a_client_that_is_stopped_for_longer_than_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Head and workers have given its links up; it has its session still, and makes new ones."""
    monkeypatch.setenv(HEARTBEAT, "3")
    name = unique_name()
    start_detached(name, "--hosts", "2", "--devices-per-host", "1")
    try:
        remains = Remains(name)
        variables = json.loads(polypath("env", "--json", "--name", name).stdout)
        with (
            Client(["tail", "-n", "+1", "-F", str(folder_of(name) / "logs" / "head.log")]) as log,
            Client.program("paused_client.py", variables=variables) as client,
        ):
            assert client.hear() == "ready"
            client.signal(signal.SIGSTOP)
            while "did not answer for 3 s" not in log.hear():
                pass
            client.signal(signal.SIGCONT)
            client.say("go on")
            status, out, err = client.end()
            assert (status, out) == (0, "done\n"), err
            assert "polypath:" not in err
    finally:
        polypath("down", "--name", name)
    remains.check_nothing_left()


@pytest.fixture(scope="module")
def impatient() -> Iterator[str]:
    """The name of a cluster of 2 islands of one host, whose ends give each other up after 3 seconds of silence."""
    name = unique_name()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HEARTBEAT, "3")
        start_detached(name, "--hosts", "2", "--islands", "2", "--devices-per-host", "1")
        try:
            yield name
        finally:
            polypath("down", "--name", name)


@pytest.mark.parametrize("how", ["wait", "read", "put"])
def test_a_stopped_worker_is_given_up(impatient: str, how: str) -> None:
    """Whoever waits for it, reads from it or sends to it hears which host was lost, and why."""
    variables = json.loads(polypath("env", "--json", "--name", impatient).stdout) | {HEARTBEAT: "3"}
    (*_, host) = status_of(impatient)["controller"]["hosts"]
    with Client.program("stopped_worker_client.py", how, str(host["pid"]), variables=variables) as client:
        status, out, err = client.end()
    assert status == 0, err
    *_, said = out.splitlines()
    was_put_again = how == "put" and said == "right"  # To the worker that was started in its place.
    lost = said.startswith("DATA_LOSS") and "Host 1 of island 1 was lost (did not answer for 3 s" in said
    assert lost or was_put_again, out
