"""What is on one device, where a program needs it beside what is on all devices of a mesh.

A copy takes a value's place once it is known to be there: until then the value stays where it was, as a copy that
fails (there may be no memory for it) must not take the value with it.
"""

from __future__ import annotations

import weakref
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from polypath.torch.programs import Ref


class Copies:
    """Those that are on their way."""

    def __init__(self) -> None:
        self._made: list[weakref.ref[Ref]] = []

    def joined(self, arguments: list[Ref]) -> list[Any]:
        """The arrays of a program's arguments, all on the same devices."""
        wide: Sharding | None = None
        narrow: list[Ref] = []
        for ref in arguments:
            if isinstance(ref.array, jax.Array):
                sharding = ref.array.sharding
                if len(sharding.device_set) == 1:
                    narrow.append(ref)
                else:
                    wide = wide or sharding
        if wide is None or not narrow:
            return [ref.array for ref in arguments]
        self._copy([ref for ref in narrow if ref.copy is None], wide)
        return [ref.array if ref.copy is None else ref.copy for ref in arguments]

    def _copy(self, refs: list[Ref], wide: Sharding) -> None:
        if isinstance(wide, NamedSharding):
            mesh = wide.mesh
        else:
            mesh = Mesh(np.array(sorted(wide.device_set, key=lambda device: device.id)), ("all",))
        with jax.enable_x64(True):
            copies = jax.device_put([ref.array for ref in refs], NamedSharding(mesh, PartitionSpec()))
        for ref, copy in zip(refs, copies, strict=True):
            ref.copy = copy
            self._made.append(weakref.ref(ref))

    def settle(self) -> None:
        """Let go of what was copied since the last time, where somebody still holds it and the copy is there."""
        made, self._made = self._made, []
        for each in made:
            ref = each()
            if ref is None or not ref.holders or ref.copy is None:
                continue
            copy, ref.copy = ref.copy, None
            try:
                copy.block_until_ready()
            except jax.errors.JaxRuntimeError:
                continue  # Whoever uses it next copies it anew, and hears of it.
            ref.hold(copy)
