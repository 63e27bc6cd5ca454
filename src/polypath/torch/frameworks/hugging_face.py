"""accelerate, and with it peft, trl and transformers' Trainer."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import torch

from polypath.torch.buffers import DEVICE


def amend_accelerate(module: ModuleType) -> None:
    """Have `Accelerator()` choose the device; `Accelerator(cpu=True)` and ACCELERATE_TORCH_DEVICE are as before."""
    module.PartialState.default_device = property(lambda self: DEVICE, doc="The cluster's device.")


def amend_transformers(module: ModuleType) -> None:
    """Have `TrainingArguments` take accelerate's choice, which it makes anew from a list of its own."""
    arguments: Any = module.TrainingArguments
    original: Any = arguments.__dict__["_setup_devices"]

    @functools.wraps(original.func)
    def _setup_devices(self: Any) -> torch.device:
        chosen: torch.device = original.func(self)
        state = self.distributed_state
        return state.device if state is not None and state.device == DEVICE else chosen

    ours = functools.cached_property(_setup_devices)
    ours.__set_name__(arguments, "_setup_devices")
    arguments._setup_devices = ours
