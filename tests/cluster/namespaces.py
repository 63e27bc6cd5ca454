"""Machines on a switch, and one without a cable: network namespaces, for tests of what goes over networks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

NETWORK = "10.89.77"


def inside(machine: str) -> list[str]:
    """The command through which another is run on a machine. It becomes the one that follows it."""
    return ["ip", "netns", "exec", machine]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Network:
    """So many machines on a switch, and one that is on none."""

    def __init__(self, machines: int) -> None:
        self.machines = [f"polypath-{os.getpid()}-{number}" for number in range(machines)]
        self.addresses = [f"{NETWORK}.{number + 1}" for number in range(machines)]
        self.alone = f"polypath-{os.getpid()}-alone"
        self._switch = f"polypath-{os.getpid()}-switch"

    def make(self) -> None:
        """Make all namespaces.

        Raises:
            subprocess.CalledProcessError: they cannot be made here; some are.
        """
        for name in (self._switch, self.alone, *self.machines):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", self._switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        _ip("-n", self._switch, "link", "set", "br0", "up")
        for number, (machine, address) in enumerate(zip(self.machines, self.addresses, strict=True)):
            port = ("peer", "name", f"p{number}", "netns", self._switch)
            _ip("link", "add", "eth0", "netns", machine, "type", "veth", *port)
            _ip("-n", self._switch, "link", "set", f"p{number}", "master", "br0", "up")
            _ip("-n", machine, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", machine, "link", "set", "eth0", "up")

    def pull_cable(self, number: int) -> None:
        """Of that machine, at the switch."""
        _ip("-n", self._switch, "link", "set", f"p{number}", "down")

    def plug_in(self, number: int) -> None:
        """Put the cable of that machine back."""
        _ip("-n", self._switch, "link", "set", f"p{number}", "up")

    def remove(self) -> None:
        """Leave nothing."""
        for name in (self._switch, self.alone, *self.machines):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextmanager
def made(machines: int) -> Iterator[Network]:
    """A network for the time of the block; skips the test where it cannot be."""
    import pytest  # Programs that tests run need none.

    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces are made by root with iproute2")
    network = Network(machines)
    try:
        try:
            network.make()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine lets us make no network namespaces: {error.stderr.strip()}")
        yield network
    finally:
        network.remove()
