"""`torch.polypath`, as far as it is about the device itself: what `torch.cuda` has for its devices.

`torch.get_device_module()`, `torch.accelerator` and libraries ask a device's module for its streams, events, memory
and properties. torch makes the same of C++ for its own accelerators; a device written in Python can register only a
few of its hooks there, so `accelerator`, `generators` and `pinned` put the rest in place."""

from __future__ import annotations

from polypath.torch.device_module import accelerator, generators, pinned, streams
from polypath.torch.device_module.memory import Memory
from polypath.torch.device_module.properties import Properties
from polypath.torch.device_module.random_state import RandomState
from polypath.torch.device_module.streams import Streams

__all__ = ["Memory", "Properties", "RandomState", "Streams", "register"]


def register(module: Streams) -> None:
    """Have torch's own names for accelerators reach `module`: once, after torch knows the device."""
    accelerator.register(module)
    generators.register()
    pinned.register()
    streams.register()
