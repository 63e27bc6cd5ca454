import subprocess
import sys

import pytest

from polypath.client.environment import client_environment, cluster_name, socket_path


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


def test_importing_polypath_imports_no_jax() -> None:
    code = (
        "import polypath, polypath.client.plugin, polypath.cli.app, sys; "
        "assert not {'jax', 'jaxlib', 'numpy', 'grpc', 'zmq'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_cluster_goes_by_its_folder() -> None:
    assert cluster_name("grpc://unix:/run/user/1/polypath/name/ifrt.sock") == "name"
    assert cluster_name("grpc://10.0.0.1:29000") == "grpc://10.0.0.1:29000"
