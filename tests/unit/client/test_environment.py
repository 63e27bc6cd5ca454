import subprocess
import sys
from pathlib import Path

import pytest

from polypath.client import folder
from polypath.client.environment import client_environment, socket_path


def test_the_variables_of_a_stock_client() -> None:
    assert client_environment("grpc://unix:/tmp/x/ifrt.sock") == {
        "JAX_PLATFORMS": "proxy",
        "JAX_BACKEND_TARGET": "grpc://unix:/tmp/x/ifrt.sock",
        "IFRT_PROXY_USE_INSECURE_GRPC_CREDENTIALS": "true",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("grpc://unix:/a/b.sock", "/a/b.sock"),
        ("unix:/a", "/a"),
        ("grpc://10.0.0.1:29000", None),
        ("grpc://host", None),
        ("", None),
    ],
)
def test_the_socket_in_a_target(target: str, path: str | None) -> None:
    assert socket_path(target) == path


def test_a_folder_per_session(tmp_path: Path) -> None:
    assert folder.make_folder(tmp_path) != folder.make_folder(tmp_path)
    assert folder.make_folder(tmp_path / "nothing") is None


def test_importing_polypath_imports_no_jax() -> None:
    code = (
        "import polypath, polypath.client.plugin, polypath.cli.app, sys; "
        "assert not {'jax', 'jaxlib', 'numpy', 'grpc', 'zmq'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
