"""`torch.Generator(device="polypath")`: a stream of random numbers of the user's own.

The keys of the device's random numbers are drawn on the client's CPU, by a generator of torch's; so a generator of
the device is one of those which says that it is the device's. The same seed gives the same numbers as a CPU generator
of that seed gives on the device."""

from __future__ import annotations

from typing import Any

import torch

from polypath.torch.buffers import DEVICE, NAME, check_index
from polypath.torch.device_module.stand_in import stand_in


class Generator(torch._C.Generator):
    """A generator of the device's."""

    def __new__(cls, device: Any = None) -> Generator:
        new: Any = super().__new__
        return new(cls, "cpu")

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return DEVICE

    def clone_state(self) -> Generator:
        """A generator that goes on from here by itself."""
        return _restored(self.get_state())

    def __copy__(self) -> Generator:
        return self.clone_state()

    def __deepcopy__(self, memo: dict[int, Any]) -> Generator:
        return self.clone_state()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.get_state(),)


def _restored(state: torch.Tensor) -> Generator:
    generator = Generator()
    generator.set_state(state)
    return generator


def register() -> None:
    """Have `torch.Generator` make these for the device."""
    stand_in("Generator", _make)


def _make(device: Any = "cpu") -> Generator | None:
    device = torch.device(device)
    check_index(device)
    return Generator() if device.type == NAME else None
