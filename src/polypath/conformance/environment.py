"""The variables that the two sides run with: only what was meant reaches the tests."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

_THEIRS: Final = re.compile(
    r"(JAX|XLA|IFRT|PJRT|TPU|LIBTPU|TF_CPP|NPROC|POLYPATH|TEST|XML_OUTPUT|GLOG|ABSL|CUDA_VISIBLE|PYTEST|BAZEL)(_|$)"
)
"""What may change how JAX or its tests run."""


def clean_environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables, by default this process's, less those that JAX, its tests or we would read."""
    given = os.environ if variables is None else variables
    return {name: value for name, value in given.items() if not _THEIRS.match(name)}


def plain_environment(devices: int, *, x64: bool) -> dict[str, str]:
    """Plain JAX with virtual CPU devices."""
    return clean_environment() | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)} | _x64(x64)


def here_environment(client: Mapping[str, str], *, x64: bool) -> dict[str, str]:
    """A client of a cluster."""
    return clean_environment() | dict(client) | _x64(x64)


def _x64(wanted: bool) -> dict[str, str]:
    return {"JAX_ENABLE_X64": "1"} if wanted else {}
