import os
import subprocess
import sys
from pathlib import Path

import pytest

from polypath.client import folder
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


def test_a_folder_per_session_at_one_path_per_process(tmp_path: Path) -> None:
    first, second = folder.make_folder(tmp_path), folder.make_folder(tmp_path)
    assert first is not None
    assert second is not None
    path = Path(folder.lasting_path(first))
    (path / "lt_1").write_bytes(b"one")
    assert folder.lasting_path(second) == str(path)
    (path / "lt_1").write_bytes(b"two")
    assert (first / "lt_1").read_bytes() == b"one"
    assert (second / "lt_1").read_bytes() == b"two"
    first_fd = int(path.name)
    os.close(first_fd)
    folder._descriptor = None  # pyright: ignore[reportPrivateUsage]


def test_full_shared_memory_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = folder.make_folder(tmp_path)
    assert found is not None
    assert folder.shares_memory(found)
    monkeypatch.setenv("POLYPATH_SHARED_MEMORY", "0")
    assert not folder.shares_memory(found)
    monkeypatch.delenv("POLYPATH_SHARED_MEMORY")
    monkeypatch.setattr(folder, "_ENOUGH", 2**60)
    assert not folder.shares_memory(found)
    assert folder.make_folder(tmp_path / "nothing") is None


def test_importing_polypath_imports_no_jax() -> None:
    code = (
        "import polypath, polypath.client.plugin, polypath.cli.app, sys; "
        "assert not {'jax', 'jaxlib', 'numpy', 'grpc', 'zmq'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_cluster_goes_by_its_folder() -> None:
    assert cluster_name("grpc://unix:/run/user/1/polypath/name/ifrt.sock") == "name"
    assert cluster_name("grpc://10.0.0.1:29000") == "grpc://10.0.0.1:29000"
