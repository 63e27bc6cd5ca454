"""Workers on other machines, which are network namespaces: what clients do there, and pulled cables.

Each worker is an island of its own: what gloo needs within an island listens on 127.0.0.1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import namespaces
import pytest
from cluster_tools import HERE, Client, Remains, unique_name
from namespaces import Network, inside

from polypath.client.environment import client_environment
from polypath.launch.head_process import HeadProcess


class Place(NamedTuple):
    """A cluster of two hosts on machines 1 and 2, with its head and clients on machine 0."""

    network: Network
    name: str
    variables: dict[str, str]


@pytest.fixture(scope="module")
def networked() -> Iterator[Place]:
    name = unique_name()
    with namespaces.made(3) as network, pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYPATH_HEARTBEAT", "3")
        machines = map("=".join, zip(network.machines[1:], network.addresses[1:], strict=True))
        command = [*inside(network.machines[0]), sys.executable, str(HERE / "networks_head.py"), *machines]
        with HeadProcess.start(
            name, hosts=2, devices_per_host=1, islands=2, platform="cpu", tied=True, command=command
        ) as head:
            variables = client_environment(head.wait_ready().address)
            remains = Remains(name)
            yield Place(network, name, variables)
        remains.check_nothing_left()


def client(networked: Place, machine: str, program: str, how: str) -> Client:
    return Client([*inside(machine), sys.executable, str(HERE / program), how], networked.variables)


@pytest.mark.parametrize("how", ["near", "tunnel"])
def test_workers_on_other_machines(networked: Place, how: str) -> None:
    """The client reaches them over TLS; or, having no route, through the head."""
    machine = networked.network.machines[0] if how == "near" else networked.network.alone
    with client(networked, machine, "networks_client.py", how) as process:
        status, out, err = process.end()
    assert status == 0, out + err
    assert out.splitlines() == ["10.0 was seen", "10.0 was seen", "done"]
    assert not [path for path in folder(networked).iterdir() if path.name.startswith("w") and path.name != "workers"]


@pytest.mark.parametrize(("how", "is_near"), [("wait", True), ("read", True), ("put", True), ("read", False)])
def test_the_cable_of_a_worker_is_pulled(networked: Place, how: str, is_near: bool) -> None:
    """The client gives its link up and says why. The head's own, a unix socket here, still carries all."""
    machine = networked.network.machines[0] if is_near else networked.network.alone
    with client(networked, machine, "cable_client.py", how) as process:
        assert process.hear() == "waiting"
        networked.network.pull_cable(2)
        try:
            process.say("it is pulled")
            assert process.hear().startswith("The link to host 1 ended: it did not answer for 3 s: is it stopped, or ")
            status, out, err = process.end()
        finally:
            networked.network.plug_in(2)
    assert status == 0, out + err
    assert out.splitlines()[-1] == "right"


def folder(networked: Place) -> Path:
    return Path(os.environ["POLYPATH_RUNTIME_DIR"]) / networked.name
