"""`pathwaysutils`, unmodified, on two islands of one host with four devices each."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cluster_tools import Remains, environment, polypath, start_detached, status_of, unique_name, wait_no_sessions
from jax.profiler import ProfileData

CLIENT = Path(__file__).with_name("pathways_client.py")


class _Bucket(http.server.BaseHTTPRequestHandler):
    """The one request of Google's storage that writing a file takes."""

    objects: dict[str, bytes]

    def do_POST(self) -> None:
        name = parse_qs(urlsplit(self.path).query)["name"][0]
        self.objects[name] = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"name": name, "generation": "1"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Where it is served, and what was written."""
    objects: dict[str, bytes] = {}
    handler = type("Bucket", (_Bucket,), {"objects": objects})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", objects
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def islands(place: Path, bucket: tuple[str, dict[str, bytes]]) -> Iterator[str]:
    """The cluster's name."""
    name = unique_name()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", bucket[0])
        patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "token")
        start_detached(name, "--hosts", "2", "--islands", "2", "--devices-per-host", "4")
    try:
        remains = Remains(name)
        yield name
    finally:
        polypath("down", "--name", name)
    remains.check_nothing_left()


def client(case: str, *arguments: object, variables: Mapping[str, str] | None = None) -> str:
    """What a client says, which must succeed."""
    done = subprocess.run(
        [sys.executable, str(CLIENT), case, *map(str, arguments)],
        env=environment(variables), capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == "ok"
    return done.stdout


@pytest.fixture
def variables(islands: str) -> Iterator[dict[str, str]]:
    """With which a client finds the cluster, in which nothing may stay of it."""
    yield json.loads(polypath("env", "--json", "--name", islands).stdout)
    assert wait_no_sessions(islands)["controller"]["values"] == 0


@pytest.mark.parametrize("case", ["reshard", "split"])
def test_arrays_on_other_meshes(variables: dict[str, str], case: str) -> None:
    client(case, variables=variables)


def test_a_checkpoint_of_the_workers_is_one_of_plain_orbax(variables: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    client("save", folder, variables=variables)
    # A chunk for each shard: it was the workers who wrote.
    assert {path.name for path in (folder / "zarr" / "layer.kernel").iterdir()} == {
        ".zarray",
        *(f"{row}.{column}" for row in range(2) for column in range(4)),
    }
    assert "restored zarr" in client("plain", folder, "restore")
    client("restore", folder, variables=variables)


def test_the_workers_read_what_plain_orbax_writes(variables: dict[str, str], tmp_path: Path) -> None:
    client("plain", tmp_path, "save")
    assert client("restore", tmp_path, variables=variables).count("restored") == 4


def events_of(path: Path) -> set[str]:
    found = ProfileData.from_file(str(path))
    return {event.name for plane in found.planes for line in plane.lines for event in line.events}


def test_each_worker_is_in_the_trace(variables: dict[str, str], tmp_path: Path) -> None:
    client("trace", tmp_path, variables=variables)
    runs = {run.name: run for run in (tmp_path / "plugins" / "profile").iterdir()}
    both = sorted(runs.pop("run").iterdir())
    assert [path.name.rsplit("-", 1)[1] for path in both] == ["worker0.xplane.pb", "worker1.xplane.pb"]
    for path in both:
        assert any("Execute" in name for name in events_of(path)), path
    # Of the other run the client said neither the name nor that it wants more than one host.
    ((_, run),) = runs.items()
    assert [path.name.rsplit("-", 1)[1] for path in run.iterdir()] == ["worker0.xplane.pb"]


def test_a_trace_in_a_bucket(variables: dict[str, str], bucket: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    client("bucket", variables=variables | {"BUCKET": "gs://traces-of-a-test/a"})
    assert sorted(name.rsplit("-", 1)[1] for name in bucket[1]) == ["worker0.xplane.pb", "worker1.xplane.pb"]
    for name, data in bucket[1].items():
        assert name.startswith("a/plugins/profile/")
        (tmp_path / "found").write_bytes(data)
        assert events_of(tmp_path / "found")


def test_slices_come_and_go(islands: str, variables: dict[str, str], tmp_path: Path) -> None:
    pids = [host["pid"] for host in status_of(islands)["controller"]["hosts"]]
    client("elastic", tmp_path, *pids, variables=variables)
    assert {host["state"] for host in status_of(islands)["controller"]["hosts"]} == {"up"}
