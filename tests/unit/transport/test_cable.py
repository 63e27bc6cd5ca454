"""A cable is pulled between two machines, which are network namespaces: both ends hear of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

END = Path(__file__).with_name("cable_end.py")
HERE, THERE = "10.89.77.1", "10.89.77.2"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Network:
    """Two machines on a switch."""

    def __init__(self) -> None:
        self.switch, *self.machines = (f"polypath-{os.getpid()}-{what}" for what in ("switch", "0", "1"))

    def make(self) -> None:
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        ip("-n", self.switch, "link", "set", "br0", "up")
        for number, (machine, address) in enumerate(zip(self.machines, (HERE, THERE), strict=True)):
            ip("netns", "add", machine)
            ip("-n", machine, "link", "set", "lo", "up")
            ip(
                "link",
                "add",
                "eth0",
                "netns",
                machine,
                "type",
                "veth",
                "peer",
                "name",
                f"p{number}",
                "netns",
                self.switch,
            )
            ip("-n", self.switch, "link", "set", f"p{number}", "master", "br0", "up")
            ip("-n", machine, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", machine, "link", "set", "eth0", "up")

    def pull_cable(self) -> None:
        ip("-n", self.switch, "link", "set", "p1", "down")

    def remove(self) -> None:
        for name in (self.switch, *self.machines):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces are made by root with iproute2")
    network = Network()
    try:
        network.make()
    except subprocess.CalledProcessError as error:
        network.remove()
        pytest.skip(f"this machine lets us make no network namespaces: {error.stderr.strip()}")
    yield network
    network.remove()


class End:
    """A process on one of the machines."""

    def __init__(self, machine: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", machine, sys.executable, str(END), *arguments],
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
    with End(network.machines[0], "head", HERE, THERE) as head, End(network.machines[1], "worker") as worker:
        worker.say(head.hear())
        head.say(worker.hear())
        assert worker.hear() == f"shard first {1 << 20}"
        network.pull_cable()
        head.say("go on")
        told = sorted((head.hear(), head.hear()))
        assert told[0].startswith("lost 1 ")
        assert told[1] == "silent 1 2.0"
        assert worker.hear() == "alone The head, or the relay above, did not answer for 2 s."
