"""Training frameworks, which choose a device by lists of names that torch's own accelerators are in, and else the
CPU.

Once `polypath.torch` is imported, whichever of them is imported (before or after) chooses the cluster's device, as it
chooses CUDA where there is any: the CPU only where the user says so. Each module here amends one maker's choice and
nothing else."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final

from polypath.torch.frameworks import hugging_face, lightning

Amend = Callable[[ModuleType], None]

_AMENDED: Final[dict[str, Amend]] = {
    "accelerate.state": hugging_face.amend_accelerate,
    "transformers.training_args": hugging_face.amend_transformers,
    "transformers.integrations.accelerate": hugging_face.amend_device_maps,
    "transformers.pipelines.base": hugging_face.amend_pipelines,
    "lightning.pytorch.trainer.connectors.accelerator_connector": lightning.amend,
    "lightning.fabric.connector": lightning.amend,
    "pytorch_lightning.trainer.connectors.accelerator_connector": lightning.amend,
    "lightning_fabric.connector": lightning.amend,
}
"""By the module in which a framework chooses."""


def register() -> None:
    """Have the frameworks choose the device; once."""
    for name, amend in _AMENDED.items():
        if name in sys.modules:
            amend(sys.modules[name])
    if "transformers.modeling_utils" in sys.modules:  # It has the function by name since before.
        hugging_face.amend_device_maps(sys.modules["transformers.modeling_utils"])
    sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds what the other finders find, and amends it when it has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _AMENDED:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, target)) is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, _AMENDED[fullname])
                return spec
        return None


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any, amend: Amend) -> None:
        self._loader = loader
        self._amend = amend

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._amend(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
