"""What a check is, and what it is told of the machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import polypath


class Machine(NamedTuple):
    """What is checked, and with how much."""

    platform: str
    reference: Path
    """What stock JAX computes here, once it was asked."""
    big: int
    """Bytes of a big array."""

    @property
    def is_gpu(self) -> bool:
        return self.platform != "cpu"

    def start(self, hosts: int = 1, devices: int | None = None, islands: int = 1) -> polypath.Cluster:
        return polypath.start(hosts, devices or (None if self.is_gpu else 2), self.platform, islands)


class Check(NamedTuple):
    run: Callable[[Machine], str]
    limit: int
    """Seconds that it may take."""
    gpu: bool
    """Whether it needs a GPU."""
    speed: bool
    """Whether it measures speed alone."""

    @property
    def name(self) -> str:
        return self.run.__name__.replace("_", " ")


BEFORE: list[Check] = []
"""What needs no cluster."""
ON_A_CLUSTER: list[Check] = []
"""What shares one."""
AFTERWARDS: list[Check] = []
"""What starts clusters of its own."""


def check(when: list[Check], limit: int = 60, *, gpu: bool = False, speed: bool = False) -> Callable[..., Any]:
    def add(run: Callable[[Machine], str]) -> Callable[[Machine], str]:
        when.append(Check(run, limit, gpu, speed))
        return run

    return add


def command(*arguments: str, **variables: str) -> str:
    """What a command prints, which must succeed."""
    done = subprocess.run(
        arguments, env=os.environ | variables, capture_output=True, text=True, timeout=110, check=False
    )
    assert not done.returncode, (done.stdout + done.stderr)[-600:]
    return done.stdout.strip()
