"""accelerate, and with it transformers' Trainer, peft and trl; transformers' pipelines and device maps."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch

from polypath.torch.buffers import DEVICE, NAME, check_index


def amend_accelerate(module: Any) -> None:
    """Have `Accelerator()` choose the device; `Accelerator(cpu=True)` and ACCELERATE_TORCH_DEVICE are as before."""
    module.PartialState.default_device = property(lambda self: DEVICE, doc="The cluster's device.")


def amend_transformers(module: Any) -> None:
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
    module.is_torch_bf16_gpu_available = lambda: True  # Which is asked only where training is not to be on the CPU.


def amend_device_maps(module: Any) -> None:
    """Have `from_pretrained(device_map="auto")` put the model on the device: there is one to divide it over."""
    original: Any = module.check_and_set_device_map

    @functools.wraps(original)
    def check_and_set_device_map(device_map: Any) -> Any:
        return original(DEVICE if device_map in _DIVIDED else device_map)

    module.check_and_set_device_map = check_and_set_device_map


_DIVIDED = ("auto", "balanced", "balanced_low_0", "sequential")


def amend_pipelines(module: Any) -> None:
    """Have `pipeline(...)` compute on the device where no other is named."""
    original: Any = module.Pipeline.__init__
    signature = inspect.signature(original)

    @functools.wraps(original)
    def __init__(*args: Any, **kwargs: Any) -> None:  # noqa: N807
        given = signature.bind(*args, **kwargs)
        device = given.arguments.get("device")
        if isinstance(device, int) and device >= 0:
            check_index(torch.device(NAME, device))
            device = None
        if device is None and getattr(given.arguments["model"], "hf_device_map", None) is None:
            given.arguments["device"] = DEVICE
        original(*given.args, **given.kwargs)

    module.Pipeline.__init__ = __init__
