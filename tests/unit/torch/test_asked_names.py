"""Whatever torch's own sources ask of a device's module is answered, or there is a reason why it need not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

from asked_names import asked_names  # noqa: E402

import polypath.torch  # noqa: E402

NOT_APPLICABLE: Final = {
    "__name__": "Dynamo asks it of modules that are Python's; the device's is an object",
    "_get_generator": "for graph-safe random operators (CUDA graphs), of devices that register for them",
    "default_generators": "for graph-safe random operators (CUDA graphs), of devices that register for them",
    "_utils": "torch.load asks whether it is there, and reads the device's index from its name if not",
    "set_rng_ctx": "asked of hpu alone",
    "unset_rng_ctx": "asked of hpu alone",
    "sparse": "torch asks whether it is there: the device has no sparse tensors",
    "rsplit": "of a str that is called module too",
}
"""Not answered."""


def test_all_that_torch_asks_for_is_answered() -> None:
    asked = asked_names(Path(torch.__file__).parent)
    answered = {name for name in asked if hasattr(torch.polypath, name)}
    missing = {name: sorted(asked[name]) for name in asked.keys() - answered - NOT_APPLICABLE.keys()}
    assert not missing, "torch asks for these; answer them, or say why not in NOT_APPLICABLE"
    assert NOT_APPLICABLE.keys() <= asked.keys() - answered, "these are not asked for, or are answered"
    # What was found out by hand is found by the search.
    assert {"_initialized", "get_rng_state", "_is_in_bad_fork", "current_device", "is_available"} <= answered
    assert polypath.torch.device().type == "polypath"
