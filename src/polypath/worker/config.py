"""What a worker is told when it starts. Holds no behaviour."""

from __future__ import annotations

from typing import Final

import msgspec

MOST_DEVICES: Final = 256
"""Of a host that takes all it finds; so many device ids are set aside for it."""


class WorkerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of JSON on the worker's standard input."""

    host: int
    """The worker's place in the cluster."""
    island: int
    node: int
    """Its rank in its island's group, from 0."""
    nodes: int
    """The size of the group."""
    first_device: int
    """The cluster-wide id of its first device; the others follow."""
    islands: int = 1
    """How many there are, all on this machine and of the same size."""
    platform: str = ""
    """What jaxlib calls it: `cpu`, `cuda`, `rocm`, `tpu`, a plugin's name; `null` for simulated devices. Empty for the
    best that jaxlib finds."""
    simulates: str = "cpu"
    """What simulated devices say they are."""
    devices: int = 0
    """How many the host has: virtual ones on CPU, else its share of the machine's. 0 for an equal share of all."""
    group_address: str = ""
    """Where the group's service (`polypath.worker.rendezvous`) listens: `unix:PATH`; unused if alone."""
    cache_dir: str = ""
    """Folder of compiled programs; empty for none."""
    snapshot: str = ""
    """Folder of a snapshot to load; empty for none."""
    control: msgspec.Raw = msgspec.Raw(b"null")
    """Addresses and keys of the transport, which alone reads them."""


END: Final = msgspec.Raw(b"null")
"""What an order to end a host has for a config."""


class HostOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """To a process of simulated hosts: start one, or end it now."""

    number: int
    """Of the start."""
    host: int
    config: msgspec.Raw = END


class HostEnded(msgspec.Struct, frozen=True):
    """From a process of simulated hosts: one ended as a worker's process would."""

    number: int
    """Of its start."""
    status: int
    cause: str


def decode_config(line: bytes | msgspec.Raw) -> WorkerConfig:
    """The config in one line of JSON.

    Raises:
        msgspec.ValidationError: it has a field of the wrong type, or one that is unknown.
    """
    return msgspec.json.decode(line, type=WorkerConfig)
