"""One cluster of 2 hosts with 4 devices each, which all programs share, and plain JAX with as many."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator

import pytest
from cluster_tools import Remains, polypath, start_detached, unique_name


@pytest.fixture(scope="session")
def plain() -> dict[str, str]:
    """The variables of plain JAX with as many virtual devices."""
    return {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """The variables with which a script finds the cluster; nothing of it may be left at the end."""
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="polypath-test-", dir="/tmp") as place,
    ):
        patch.setenv("POLYPATH_RUNTIME_DIR", place)
        name = unique_name()
        start_detached(name, "--hosts", "2", "--devices-per-host", "4")
        try:
            remains = Remains(name)
            yield json.loads(polypath("env", "--json", "--name", name).stdout)
        finally:
            polypath("down", "--name", name)
        remains.check_nothing_left()
