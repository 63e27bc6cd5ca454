"""Memory of the devices: what torch's tensors take is counted here, what the platform counts is asked of it.

The device stands for all of the cluster's, so every figure is a sum over them. *Allocated* are the values that
tensors hold. *Reserved* is what the platform says is in use, with what programs need while they run and what others
hold; where it counts nothing (CPU), reserved is what is allocated, and how much is free is not known."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import jax

from polypath.torch.account import account
from polypath.torch.errors import TorchError
from polypath.torch.trace import trace


def platform_stats() -> dict[str, int]:
    """What the platform counts (`bytes_in_use`, `peak_bytes_in_use`, `bytes_limit`, ...), over all devices."""
    totals: dict[str, int] = {}
    for device in jax.devices():
        for name, value in (device.memory_stats() or {}).items():
            totals[name] = totals.get(name, 0) + value
    return totals


def total_memory() -> int:
    """Bytes of memory of all devices.

    Raises:
        TorchError: the platform does not say.
    """
    return _known(platform_stats(), "bytes_limit")


def _known(stats: dict[str, int], name: str) -> int:
    if name not in stats:
        raise TorchError(
            f"How much memory the cluster's devices have is not known: their platform ({jax.devices()[0].platform}) "
            "counts none; torch.polypath.memory_allocated() says what tensors take."
        )
    return stats[name]


class Memory:
    """What `torch.polypath` has of memory."""

    def memory_allocated(self, device: Any = None) -> int:
        """Bytes that tensors take; starts all that waits."""
        trace.flush()
        return account.current

    def max_memory_allocated(self, device: Any = None) -> int:
        """The most bytes that tensors took since the peak was reset."""
        trace.flush()
        return account.peak

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        trace.flush()
        account.reset_peak()

    reset_max_memory_allocated = reset_peak_memory_stats

    def reset_accumulated_memory_stats(self, device: Any = None) -> None:
        account.reset_accumulated()

    def memory_reserved(self, device: Any = None) -> int:
        """Bytes in use as the platform counts them, else those that tensors take."""
        allocated = self.memory_allocated()
        return platform_stats().get("bytes_in_use", allocated) if account.allocated else allocated

    def max_memory_reserved(self, device: Any = None) -> int:
        """The most bytes in use since the devices' processes began, as the platform counts them."""
        allocated = self.max_memory_allocated()
        return platform_stats().get("peak_bytes_in_use", allocated) if account.allocated else allocated

    def memory_stats_as_nested_dict(self, device: Any = None) -> dict[str, Any]:
        allocated = self.memory_allocated()
        held = {"current": allocated, "peak": account.peak, "allocated": account.allocated, "freed": account.freed}
        reserved = {"current": self.memory_reserved(), "peak": self.max_memory_reserved()}
        return {"allocated_bytes": {"all": held}, "reserved_bytes": {"all": reserved}}

    def memory_stats(self, device: Any = None) -> OrderedDict[str, int]:
        """Under torch's names: `allocated_bytes.all.` and `reserved_bytes.all.`, each `current` and `peak`, say."""
        return OrderedDict(
            (f"{what}.{pool}.{name}", value)
            for what, pools in self.memory_stats_as_nested_dict().items()
            for pool, values in pools.items()
            for name, value in sorted(values.items())
        )

    def memory_summary(self, device: Any = None, abbreviated: bool = False) -> str:
        """The statistics, a line each."""
        return "\n".join(f"{name:<32} {value:>16,} bytes" for name, value in self.memory_stats().items())

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        """Bytes that are free, and bytes that there are.

        Raises:
            TorchError: the platform does not say.
        """
        trace.flush()
        stats = platform_stats()
        total = _known(stats, "bytes_limit")
        return total - _known(stats, "bytes_in_use"), total

    def empty_cache(self) -> None:
        """Do nothing: the client keeps no memory of the devices that no tensor holds."""

    def ipc_collect(self) -> None:
        """Do nothing: no memory is shared with other processes."""
