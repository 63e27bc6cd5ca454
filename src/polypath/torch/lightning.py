"""`Trainer(accelerator=polypath.torch.lightning.Accelerator())`: Lightning on all devices of a cluster, from one
process.

It is what `Trainer()` and `Trainer(accelerator="polypath")` choose once `polypath.torch` is imported."""

from __future__ import annotations

import importlib
from typing import Any, Final

from polypath.torch.frameworks.lightning import accelerator_of


def _base() -> Any:
    for package in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning_fabric"):
        try:
            return importlib.import_module(f"{package}.accelerators").Accelerator
        except ModuleNotFoundError as error:
            if error.name is None or not package.startswith(error.name):
                raise
    raise ModuleNotFoundError(
        "polypath.torch.lightning needs Lightning, which is not installed: pip install lightning."
    )


Accelerator: Final[Any] = accelerator_of(_base())
"""A class of Lightning's accelerators."""
