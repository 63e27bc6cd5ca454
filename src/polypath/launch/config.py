"""What a head is told when it starts, and what it answers.

Owns the two messages between a head and whoever starts it: one JSON line on the head's stdin
(`HeadConfig`), one on its stdout (`HeadReply`). Knows neither files nor processes.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from polypath.errors import ClusterError

SIMULATED: Final = "simulated"
"""The platform whose devices run nothing: many hosts share a process, and results are zeros.

They say that they are CPUs; those of `simulated-cuda` (or any other name) that they are that."""
FANOUT: Final = 64
"""So many processes one sends to, unless told otherwise; more hosts get relays."""
SIMULATED_FANOUT: Final = 1250
"""So many simulated hosts share a process, unless told otherwise."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_PLATFORM: Final = re.compile(r"[a-z][a-z0-9_-]*")


class HeadConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster, as it is to be."""

    name: str
    hosts: int
    devices_per_host: int | None = None
    """None: all the devices a host has (one on CPU)."""
    islands: int = 1
    platform: str | None = None
    """`cpu`, `cuda`, `rocm`, `tpu`, the name of a PJRT plugin, `SIMULATED`; None: the best that jaxlib finds."""
    fanout: int = FANOUT
    """So many workers, or relays, the head and each relay has below it at most."""
    addresses: tuple[str, ...] = ()
    """Of each host's network, as its clients and the other hosts reach it; empty where all are on this machine."""
    tied: bool = False
    """The head ends when its stdin does, so that it never outlives who started it."""
    runtime_dir: str
    """The cluster's own folder, already claimed and locked; holds `ifrt.sock` and `cluster.json`."""
    shared_dir: str
    """The cluster's own folder in shared memory."""
    log_dir: str
    cache_dir: str
    """Of compiled programs; shared by all clusters of this user and kept."""
    debug: bool = False

    @property
    def socket(self) -> str:
        """Where clients connect."""
        return f"{self.runtime_dir}/ifrt.sock"

    @property
    def link(self) -> str:
        """Where the head takes clients' links, beside `socket`."""
        return f"{self.runtime_dir}/link"

    @property
    def simulates(self) -> str | None:
        """What the devices say they are, if they are simulated."""
        return simulates(self.platform)

    @property
    def address(self) -> str:
        """What clients call `socket`."""
        return f"grpc://unix:{self.socket}"


class HeadReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one line on a head's stdout: ready, or the sentence that says why not."""

    ready: bool = False
    address: str = ""
    platform: str = ""
    """What the workers run on."""
    devices: int = 0
    """In the whole cluster."""
    error: str = ""


def simulates(platform: str | None) -> str | None:
    """What the devices of a simulated platform say they are; None of real ones."""
    name, _, simulated = (platform or "").partition("-")
    return (simulated or "cpu") if name == SIMULATED else None


def check_shape(
    hosts: int, devices_per_host: int | None, islands: int, platform: str | None, fanout: int | None = None
) -> None:
    """Refuse a cluster that cannot be.

    Raises:
        ClusterError: a number is too small, or they don't fit, or the platform is none.
    """
    if hosts < 1:
        raise ClusterError(f"A cluster needs at least one host, not {hosts}: give `hosts` a number from 1.")
    if devices_per_host is not None and devices_per_host < 1:
        raise ClusterError(
            f"A host needs at least one device, not {devices_per_host}: give `devices_per_host` a number "
            "from 1, or leave it out to use all there are."
        )
    if islands < 1 or hosts % islands:
        raise ClusterError(
            f"{hosts} hosts cannot be split into {islands} islands of equal size: choose a number of islands "
            "that divides the number of hosts."
        )
    if fanout is not None and fanout < 2:
        raise ClusterError(f"A process sends to at least two others, not {fanout}: give `fanout` a number from 2.")
    if platform is not None and not _PLATFORM.fullmatch(platform):
        raise ClusterError(
            f"There is no platform {platform!r}: say cpu, cuda, rocm, tpu, {SIMULATED} or the name of a PJRT plugin, "
            "or leave it out to use what jaxlib finds."
        )


def check_name(name: str) -> None:
    """Refuse a cluster's name that cannot be part of a path that JAX lower-cases.

    Raises:
        ClusterError: it has other characters, or too many.
    """
    if not _NAME.fullmatch(name):
        raise ClusterError(
            f"{name!r} cannot name a cluster: use up to 40 lower-case letters, digits, '-' and '_', "
            "the first a letter or a digit."
        )
