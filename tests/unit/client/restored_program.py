"""Uses the cluster whose address is given twice, and shows that JAX is as it was after each time."""

from __future__ import annotations

import pkgutil
import sys
from typing import Any

import jax

import polypath
from polypath.client.hooks import patches
from polypath.client.session import Session

MISSING = object()
session = Session(jax.devices()[0].client, "")
patched = [each for its in patches.table(session).values() for each in its if each.belongs_to(jax.__version__)]


def state() -> list[Any]:
    """What the owners of all that is patched have in its place."""
    owners = [pkgutil.resolve_name(each.owner) for each in patched]
    return [
        (owner if isinstance(owner, dict) else vars(owner)).get(each.name, MISSING)
        for owner, each in zip(owners, patched, strict=True)
    ]


before = state()
for _ in range(2):
    with polypath.connect(sys.argv[1]):
        assert len(jax.devices()) == 8
        changed = [each.name for each, was, now in zip(patched, before, state(), strict=True) if was is not now]
        assert len(changed) > 20
    kept = [each.name for each, was, now in zip(patched, before, state(), strict=True) if was is not now]
    assert not kept, kept
print("restored")
