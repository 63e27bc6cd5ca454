"""What the frontend knows of the cluster: its devices, as clients see them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from polypath.frontend.refused import Refused, invalid
from polypath.types import Code, Device, DeviceId, Platform


@dataclass(frozen=True)
class ClusterView:
    """The devices a client may use. A session keeps the view of the moment it began."""

    name: str
    """The cluster's, for people."""
    platform: Platform
    devices: tuple[Device, ...]
    """All, also the CPUs beside accelerators. Empty while no worker has joined."""

    @cached_property
    def primary(self) -> tuple[Device, ...]:
        """Those of the cluster's platform, in the order of `jax.devices()`."""
        return tuple(device for device in self.devices if device.platform == self.platform.name)

    @cached_property
    def by_id(self) -> dict[DeviceId, Device]:
        return {device.id: device for device in self.devices}

    @cached_property
    def memory_kinds(self) -> tuple[str, ...]:
        """Every kind of memory in the cluster; a kind's place is its number."""
        return tuple(dict.fromkeys(kind for device in self.devices for kind in device.memory_kinds))

    def check(self, devices: Iterable[DeviceId], memory_kind: str = "") -> tuple[DeviceId, ...]:
        """The devices, which exist, differ, and have such a memory.

        Raises:
            Refused: they do not.
        """
        ids = tuple(devices)
        if not ids:
            raise invalid("The request names no device where it needs at least one.")
        known = self.by_id
        for id_ in ids:
            device = known.get(id_)
            if device is None:
                raise invalid(f"Device {id_} does not exist: cluster {self.name} has devices {_ranges(known)}.")
            if memory_kind and memory_kind not in device.memory_kinds:
                raise invalid(
                    f"Device {id_} has no memory of kind {memory_kind!r}, only {', '.join(device.memory_kinds)}."
                )
        if len(set(ids)) < len(ids):
            raise invalid("The request names a device twice where each may stand once.")
        return ids

    def default_devices(self, count: int) -> tuple[DeviceId, ...]:
        """The first `count` devices.

        Raises:
            Refused: there are fewer.
        """
        if not 1 <= count <= len(self.primary):
            raise Refused(
                Code.INVALID_ARGUMENT,
                f"A program on {count} devices cannot run on cluster {self.name}, which has {len(self.primary)}.",
            )
        return tuple(device.id for device in self.primary[:count])


def _ranges(ids: Iterable[int]) -> str:
    """`0-3, 7` for 0, 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for id_ in sorted(ids):
        if runs and id_ == runs[-1][1] + 1:
            runs[-1][1] = id_
        else:
            runs.append([id_, id_])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or "none"
