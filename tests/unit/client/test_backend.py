"""Stock JAX, in processes of its own, against a server that answers `jax.devices()`."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from polypath.client.environment import client_environment
from polypath.errors import UnsupportedVersion
from polypath.launch import runtime_dir
from polypath.versions import WORKERS, check_client, check_worker

SERVER = str(Path(__file__).with_name("ifrt_server.py"))


class Server:
    def __init__(self, platform: str) -> None:
        self.claim = runtime_dir.claim("t-a")
        self.config = self.claim.config(1, 8, 1, None, tied=True, debug=False)
        config = msgspec.json.encode(self.config).decode()
        self.process = subprocess.Popen(
            [sys.executable, SERVER, config, platform], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.line() == "up"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def close(self) -> None:
        self.process.communicate(b"")
        self.claim.remove()


@pytest.fixture
def serve() -> Iterator[Callable[[str], Server]]:
    servers: list[Server] = []

    def start(platform: str) -> Server:
        servers.append(Server(platform))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def script(code: str, address: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "TF_CPP", "XLA_"))}
    env |= (client_environment(address) if address else {}) | variables
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_stock_script_needs_only_the_variables(serve: Callable[[str], Server]) -> None:
    server = serve("cpu")
    done = script(
        "import jax; print(len(jax.devices()), jax.devices('cpu') == jax.devices(), jax.default_backend())",
        server.config.address,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "8 True cpu\n", "")
    told = server.line()
    assert " link=" in told
    assert "client=pid " in told


def test_a_gpu_cluster_goes_by_its_names(serve: Callable[[str], Server]) -> None:
    done = script(
        "import jax; print(jax.devices('gpu') == jax.devices('cuda') == jax.devices())", serve("cuda").config.address
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_nobody_there_is_told_at_once(runtime: Path) -> None:
    done = script("import jax; jax.devices()", f"grpc://unix:{runtime}/x/ifrt.sock")
    assert done.returncode == 1
    assert done.stderr.count("No cluster answers at") <= 2
    assert "(No such file or directory): start one with `polypath up`" in done.stderr.splitlines()[-1] + done.stderr


def test_who_does_not_use_a_cluster_is_left_alone() -> None:
    done = script(
        "import jax, sys; print(jax.devices()[0].platform, 'polypath.client.backend' in sys.modules)",
        JAX_PLATFORMS="cpu",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "cpu False\n", "")


def test_another_proxys_registration_stands() -> None:
    done = script(
        "import jax, jax.extend.backend as b\n"
        "def theirs(): raise RuntimeError('theirs')\n"
        "b.register_backend_factory('proxy', theirs)\n"
        "jax.devices()",
        "grpc://10.0.0.1:29000",
    )
    assert "theirs" in done.stderr.splitlines()[-1]


def test_pathwaysutils_may_register_as_well(serve: Callable[[str], Server]) -> None:
    code = "import pathwaysutils; pathwaysutils.initialize(); import jax; print(len(jax.devices()))"
    done = script(code, serve("cpu").config.address)
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr


@pytest.mark.parametrize("before", ["import jax", "import jax; assert jax.devices()[0].platform == 'cpu'", ""])
def test_connect_switches_jax_and_close_switches_back(before: str, serve: Callable[[str], Server]) -> None:
    server = serve("cpu")
    code = (
        f"{before}\nimport polypath\n"
        "for _ in range(2):\n"
        f"  with polypath.connect({server.config.address!r}) as cluster:\n"
        "    import jax\n"
        "    assert len(jax.devices()) == 8 and 'Cpu' not in str(type(jax.devices()[0]))\n"
        "  assert len(jax.devices()) == 1, jax.devices()\n"
        "  assert jax.jit(lambda x: x + 1)(1) == 2\n"
        "print(cluster)\n"
    )
    done = script(code, JAX_PLATFORMS="cpu")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"<Cluster 't-a' at {server.config.address}, closed>\n"


def test_closing_restores_jax(serve: Callable[[str], Server]) -> None:
    program = str(Path(__file__).with_name("restored_program.py"))
    done = script(f"import runpy, sys; sys.argv[1:] = [{serve('cpu').config.address!r}]; runpy.run_path({program!r})")
    assert (done.returncode, done.stdout) == (0, "restored\n"), done.stderr


def test_one_cluster_at_a_time(serve: Callable[[str], Server]) -> None:
    serve("cpu")
    done = script("import polypath; polypath.connect(); polypath.connect('t-a')")
    assert "This process uses the cluster 't-a' already: close it first" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("'t-b'", "No cluster named 't-b' runs here: start one with `polypath up`."),
        ("", "No cluster runs here"),
        ("'grpc://host:1'", "is no cluster's address"),
        ("'grpc://unix:/nonexistent/ifrt.sock'", "No cluster answers at grpc://unix:/nonexistent/ifrt.sock"),
    ],
)
def test_connect_tells_that_there_is_none(what: str, sentence: str) -> None:
    done = script(f"import polypath; polypath.connect({what})")
    assert sentence in done.stderr.splitlines()[-1]


def test_the_end_of_the_cluster_is_told(serve: Callable[[str], Server]) -> None:
    server = serve("cpu")
    code = (
        "import jax, os, sys, threading\n"
        "jax.devices()\n"
        f"os.kill({server.process.pid}, 9)\n"
        "[t.join(10) for t in threading.enumerate() if t.name == 'polypath-link-head']\n"
    )
    done = script(code, server.config.address)
    assert done.returncode == 0
    assert done.stderr.count("polypath: the cluster 't-a' at grpc://unix:") == 1


@pytest.mark.parametrize("version", ["0.8.3", "0.13.0", "0.13.0rc1", "1.0"])
def test_another_jax_is_refused(version: str) -> None:
    with pytest.raises(UnsupportedVersion, match=rf"supports jax 0\.9 to 0\.12, and this is jax {version}: install"):
        check_client(version)


@pytest.mark.parametrize("version", ["0.9.0", "0.10.2", "0.12.0.1", "0.12.1.dev2"])
def test_a_jax_in_the_range_is_not(version: str) -> None:
    check_client(version)


@pytest.mark.parametrize("version", ["0.10.2", "0.10.3.dev1", "0.11.2", "0.12.0.1"])
def test_workers_have_a_range(version: str) -> None:
    check_worker(version)


@pytest.mark.parametrize(("version", "advice"), [("0.10.1", "connect from here"), ("0.13.0", ""), ("0.8.3", "")])
def test_workers_with_another_jax_are_refused(version: str, advice: str) -> None:
    with pytest.raises(
        UnsupportedVersion, match=rf"has jax {version}: pip install 'jax>=0\.10\.2,<0\.13'.*{advice}\.$"
    ):
        check_worker(version)


def test_the_package_asks_for_the_workers_version() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert WORKERS in project["dependencies"]
