"""How a contender of each kind is run: the commands for its script in `contenders/`, and their environment.

Knows nothing of what is measured: a script gets its own arguments. What Polypath is compared with and does not
depend on is a `Peer`: its scripts run with the Python of an environment of its own.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shlex
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from runner import Command

_SCRIPTS: Final = Path(__file__).parent / "contenders"
_OURS_TO_SET: Final = ("JAX_", "XLA_", "IFRT_PROXY_", "RAY_", "MONARCH_", "HYPERACTOR_")
_cluster_numbers: Final = itertools.count()


@dataclass(frozen=True)
class Contender:
    """One row of the table."""

    name: str
    group: str
    """Rows of a group are compared; the first of them is Polypath."""
    commands: Callable[[], Sequence[Command]]
    peer: Peer | None = None
    """What it needs beyond Polypath's own environment."""


@dataclass(frozen=True, eq=False)
class Peer:
    """What lives in an environment of its own."""

    name: str
    requirement: str
    settings: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def option(self) -> str:
        return f"{self.name.lower()}-python"

    @property
    def how_to_install(self) -> str:
        folder = f".venv-{self.name.lower()}"
        install = f"{folder}/bin/pip install {shlex.quote(self.requirement)}"
        return f"python3 -m venv {folder}, then {install}, and give --{self.option}={folder}/bin/python"

    def contender(self, name: str, group: str, python: str, script: str, arguments: Sequence[str]) -> Contender:
        """A script of it, run with the Python of its environment."""
        command = Command([python, str(_SCRIPTS / script), *arguments], environment(**self.settings))
        return Contender(name, group, lambda: [command], self)


def polypath(
    script: str, arguments: Sequence[str], hosts: int, devices_per_host: int, platform: str = "cpu"
) -> list[Command]:
    """A script of stock JAX on a cluster of its own."""
    cluster = cluster_of(hosts, devices_per_host, platform)
    return [Command([*cluster, str(_SCRIPTS / script), *arguments], environment())]


def cluster_of(hosts: int, devices_per_host: int, platform: str = "cpu") -> list[str]:
    """What runs a script on a cluster of its own."""
    # No two of the same name, also if several of these benchmarks run at once.
    name = f"bench-{os.getpid()}-{secrets.token_hex(2)}-{next(_cluster_numbers)}"
    shape = [f"--platform={platform}", f"--hosts={hosts}", f"--devices-per-host={devices_per_host}"]
    return [str(Path(sys.executable).with_name("polypath")), "run", f"--name={name}", *shape]


def plain(script: str, arguments: Sequence[str], **settings: str) -> list[Command]:
    """A script by itself."""
    return [Command([sys.executable, str(_SCRIPTS / script), *arguments], environment(**settings))]


def jax(script: str, arguments: Sequence[str], devices: int) -> list[Command]:
    """A script of stock JAX with devices in its process."""
    return plain(script, arguments, JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES=str(devices))


def multi_controller(script: str, arguments: Sequence[str], processes: int, devices_per_process: int) -> list[Command]:
    """The same script in each of several processes; it takes `--coordinator`, `--processes` and `--process`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    group = [f"--coordinator={coordinator}", f"--processes={processes}"]
    settings = environment(
        JAX_PLATFORMS="cpu",
        JAX_NUM_CPU_DEVICES=str(devices_per_process),
        JAX_CPU_COLLECTIVES_IMPLEMENTATION="gloo",
    )
    command = [sys.executable, str(_SCRIPTS / script), *arguments, *group]
    return [Command([*command, f"--process={process}"], settings) for process in range(processes)]


def environment(**settings: str) -> dict[str, str]:
    """Ours, without what would make contenders differ in what they do."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS_TO_SET)}
    return kept | settings


# Ray would otherwise leave a token in the user's home, and report home.
RAY: Final = Peer("Ray", "ray[cgraph]", {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"})
MONARCH: Final = Peer("Monarch", "torchmonarch")
