"""Lightning's Trainer and Fabric, as `lightning` and under their older names."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import torch

from polypath.torch.buffers import DEVICE, NAME
from polypath.torch.errors import TorchError


def amend(connector: ModuleType) -> None:
    """Have `Trainer()` or `Fabric()` choose the device, and go there with what it is given.

    Args:
        connector: the module whose class makes a Trainer's (or Fabric's) choices. It imports all it chooses among.
    """
    of_trainer = hasattr(connector, "_AcceleratorConnector")
    choices: Any = connector._AcceleratorConnector if of_trainer else connector._Connector
    registry: Any = connector.AcceleratorRegistry if of_trainer else connector.ACCELERATOR_REGISTRY
    accelerator = accelerator_of(connector.Accelerator)
    registry.register(NAME, accelerator, description="All devices of a Polypath cluster")
    choose_strategy, choose_precision = choices._choose_strategy, choices._check_and_init_precision

    @functools.wraps(choose_strategy)
    def _choose_strategy(self: Any) -> Any:
        if self.accelerator.name() == NAME:
            return connector.SingleDeviceStrategy(device=DEVICE)
        return choose_strategy(self)

    @functools.wraps(choose_precision)
    def _check_and_init_precision(self: Any) -> Any:
        found = choose_precision(self)
        if self.accelerator.name() == NAME and isinstance(found, connector.MixedPrecision):
            return type(found)(found.precision, NAME)  # For CUDA it would compute as if nothing was said.
        return found

    choices._choose_auto_accelerator = staticmethod(lambda: NAME)
    choices._choose_strategy = _choose_strategy
    choices._check_and_init_precision = _check_and_init_precision


@functools.cache
def accelerator_of(base: Any) -> Any:
    """The device as an accelerator of the package that `base` is from."""

    class Accelerator(base):
        """All devices of a cluster: `Trainer(accelerator=Accelerator())`, or `Trainer(accelerator="polypath")`."""

        def setup_device(self, device: torch.device) -> None:
            if device.type != NAME:
                raise TorchError(
                    f"The strategy computes on {device}, though the accelerator is {NAME}; leave strategy out, or give "
                    "SingleDeviceStrategy(device=polypath.torch.device())."
                )

        def get_device_stats(self, device: Any) -> dict[str, Any]:
            return dict(torch.get_device_module(NAME).memory_stats())

        def teardown(self) -> None: ...

        @staticmethod
        def parse_devices(devices: Any) -> int:
            if devices not in (1, -1, "1", "-1", "auto", [0]):
                raise TorchError(
                    f"devices={devices!r} asks for more than the one device, which stands for all of the cluster; "
                    "leave it out, and lay the model over them with polypath.torch.fsdp() or polypath.torch.shard()."
                )
            return 1

        @staticmethod
        def get_parallel_devices(devices: Any) -> list[torch.device]:
            return [DEVICE]

        @staticmethod
        def auto_device_count() -> int:
            return 1

        @staticmethod
        def is_available() -> bool:
            return True

        @staticmethod
        def name() -> str:
            return NAME

    return Accelerator
