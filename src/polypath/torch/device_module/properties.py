"""What the device is: a name, its properties, and what it can compute with."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import torch

from polypath.torch.device_module.memory import total_memory
from polypath.torch.dtypes import KNOWN
from polypath.torch.errors import TorchError


class DeviceProperties(NamedTuple):
    """What is known of the devices that the device stands for."""

    name: str
    """How many there are, and of which kind, as in `8 x NVIDIA H100`."""
    platform: str
    """As JAX names it: `cpu`, `cuda`, `tpu`, ..."""
    devices: int

    @property
    def total_memory(self) -> int:
        """Bytes of memory of all devices.

        Raises:
            TorchError: the platform does not say.
        """
        return total_memory()


class Properties:
    """What `torch.polypath` has of properties."""

    def get_device_properties(self, device: Any = None) -> DeviceProperties:
        devices = jax.devices()
        kinds = sorted({one.device_kind for one in devices})
        return DeviceProperties(f"{len(devices)} x {', '.join(kinds)}", devices[0].platform, len(devices))

    def get_device_name(self, device: Any = None) -> str:
        """How many devices there are, and of which kind."""
        return self.get_device_properties().name

    def get_device_capability(self, device: Any = None) -> tuple[int, int]:
        """CUDA's compute capability, where the devices have one.

        Raises:
            TorchError: they have none.
        """
        found: Any = getattr(jax.devices()[0], "compute_capability", None)
        if not isinstance(found, str):
            raise TorchError(
                f"Devices of the platform {jax.devices()[0].platform} have no compute capability, which is CUDA's; "
                "ask torch.polypath.is_bf16_supported() or torch.accelerator.get_device_capability() what they can."
            )
        major, _, minor = found.partition(".")
        return int(major), int(minor or 0)

    def supported_dtypes(self) -> set[torch.dtype]:
        """Those that tensors of the device can have."""
        return set(KNOWN)

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        """Yes: XLA has it on every platform."""
        return True

    def is_tf32_supported(self) -> bool:
        """Whether the devices have TF32, which is CUDA's from 8.0 on."""
        return jax.devices()[0].platform in ("cuda", "gpu") and self.get_device_capability() >= (8, 0)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Those that `torch.autocast` can compute in."""
        return [torch.bfloat16, torch.float16]
