"""One cluster of 2 hosts with 4 devices each, which all clients share."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator

import pytest
from cluster_tools import Remains, polypath, start_detached, unique_name


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-mesh", action="store_true", help="Run each model on every mesh, not on one or two.")


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """The variables with which a client finds it; nothing of it may be left at the end."""
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
