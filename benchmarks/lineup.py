"""Who is measured: the commands that run each contender. What they measure is in `contenders/`."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runner import Command

_SCRIPTS: Final = Path(__file__).parent / "contenders"
_OURS_TO_SET: Final = ("JAX_", "XLA_", "IFRT_PROXY_", "RAY_")
_cluster_numbers: Final = itertools.count()


@dataclass(frozen=True)
class Effort:
    """How much one round measures."""

    calls: int
    """Blocked calls, whose median counts."""
    burst: int
    """Unblocked calls, whose rate counts."""

    def arguments(self) -> list[str]:
        return [f"--calls={self.calls}", f"--burst={self.burst}"]


@dataclass(frozen=True)
class Contender:
    """One row of the table."""

    name: str
    devices: str
    """Rows with the same devices are compared; the first of them is Polypath."""
    commands: Callable[[Effort], Sequence[Command]]


def lineup(ray_python: str) -> list[Contender]:
    one, host, hosts = "1 device", "8 devices of 1 host", "8 devices of 2 hosts"
    return [
        Contender("Polypath 1×1", one, lambda effort: _polypath(effort, 1, 1)),
        Contender("JAX in process", one, lambda effort: [_jax(effort, 1)]),
        Contender("Ray actor call", one, lambda effort: [_ray(effort, ray_python)]),
        Contender("Ray compiled graph", one, lambda effort: [_ray(effort, ray_python, "--compiled")]),
        Contender("Polypath 1×8", host, lambda effort: _polypath(effort, 1, 8)),
        Contender("JAX in process", host, lambda effort: [_jax(effort, 8)]),
        Contender("Polypath 2×4", hosts, lambda effort: _polypath(effort, 2, 4)),
        Contender("JAX multi-controller", hosts, lambda effort: _multi_controller(effort, 2, 4)),
    ]


def _polypath(effort: Effort, hosts: int, devices_per_host: int) -> list[Command]:
    script = _jax_script(effort, hosts * devices_per_host)
    return [Command([*cluster_of(hosts, devices_per_host), *script], environment())]


def cluster_of(hosts: int, devices_per_host: int) -> list[str]:
    """What runs a script on a cluster of its own."""
    # No two of the same name, also if several of these benchmarks run at once.
    name = f"bench-{os.getpid()}-{secrets.token_hex(2)}-{next(_cluster_numbers)}"
    shape = ["--platform=cpu", f"--hosts={hosts}", f"--devices-per-host={devices_per_host}"]
    return [str(Path(sys.executable).with_name("polypath")), "run", f"--name={name}", *shape]


def _jax(effort: Effort, devices: int) -> Command:
    return Command(
        [sys.executable, *_jax_script(effort, devices)],
        environment(JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES=str(devices)),
    )


def _multi_controller(effort: Effort, processes: int, devices_per_process: int) -> list[Command]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    group = [f"--coordinator={coordinator}", f"--processes={processes}"]
    variables = environment(
        JAX_PLATFORMS="cpu",
        JAX_NUM_CPU_DEVICES=str(devices_per_process),
        JAX_CPU_COLLECTIVES_IMPLEMENTATION="gloo",
    )
    script = [sys.executable, *_jax_script(effort, processes * devices_per_process), *group]
    return [Command([*script, f"--process={process}"], variables) for process in range(processes)]


def _ray(effort: Effort, python: str, *options: str) -> Command:
    # Ray would otherwise leave a token in the user's home, and report home.
    variables = environment(RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_USAGE_STATS_ENABLED="0")
    return Command([python, str(_SCRIPTS / "ray_add.py"), *effort.arguments(), *options], variables)


def _jax_script(effort: Effort, devices: int) -> list[str]:
    return [str(_SCRIPTS / "jax_steps.py"), *effort.arguments(), f"--devices={devices}"]


def environment(**settings: str) -> dict[str, str]:
    """Ours, without what would make contenders differ in what they do."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS_TO_SET)}
    return kept | settings
