"""A cable is pulled between two machines, which are network namespaces: both ends hear of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import namespaces
import pytest
from namespaces import Network, inside

END = Path(__file__).with_name("cable_end.py")


@pytest.fixture
def network() -> Iterator[Network]:
    with namespaces.made(2) as network:
        yield network


class End:
    """A process on one of the machines."""

    def __init__(self, machine: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*inside(machine), sys.executable, str(END), *arguments],
            env=os.environ | {"POLYPATH_HEARTBEAT": "2"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> End:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")


def test_a_cable_is_pulled(network: Network) -> None:
    with End(network.machines[0], "head", *network.addresses) as head, End(network.machines[1], "worker") as worker:
        worker.say(head.hear())
        head.say(worker.hear())
        assert worker.hear() == f"shard first {1 << 20}"
        network.pull_cable(1)
        head.say("go on")
        told = sorted((head.hear(), head.hear()))
        assert told[0].startswith("lost 1 ")
        assert told[1] == "silent 1 2.0"
        assert worker.hear() == "alone The head, or the relay above, did not answer for 2 s."
