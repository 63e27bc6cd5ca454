"""A folder of our own for the clusters of these tests, and one cluster that most of them share."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_tools import Remains, Way, polypath, start_detached, unique_name


@pytest.fixture(scope="session", autouse=True)
def place() -> Iterator[Path]:
    """`POLYPATH_RUNTIME_DIR`; must be empty again at the end."""
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="polypath-test-", dir="/tmp") as path,
    ):
        patch.setenv("POLYPATH_RUNTIME_DIR", path)
        yield Path(path)
        assert not list(Path(path).iterdir())


@pytest.fixture(scope="session")
def cluster(place: Path) -> Iterator[str]:
    """The name of a cluster of 2 hosts with 2 devices each, in one island."""
    name = unique_name()
    start_detached(name, "--hosts", "2", "--devices-per-host", "2")
    try:
        remains = Remains(name)
        yield name
    finally:
        polypath("down", "--name", name)
    remains.check_nothing_left()


@pytest.fixture(scope="session")
def variables(cluster: str) -> dict[str, str]:
    """With which a script finds the cluster."""
    return json.loads(polypath("env", "--json", "--name", cluster).stdout)


@pytest.fixture(params=["links", "jaxlib"])
def way(request: pytest.FixtureRequest, variables: dict[str, str], tmp_path: Path) -> Way:
    """Each way to a cluster: with links to its workers; or by jaxlib's protocol alone, as through a socket forwarded
    from another machine, beside which there is none for links."""
    if request.param == "links":
        return Way("links", variables)
    forwarded = tmp_path / "ifrt.sock"
    forwarded.symlink_to(variables["JAX_BACKEND_TARGET"].removeprefix("grpc://unix:"))
    return Way("jaxlib", variables | {"JAX_BACKEND_TARGET": f"grpc://unix:{forwarded}"})
