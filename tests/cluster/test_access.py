"""What other users of the machine can reach of a cluster: nothing, and `docs/security.md` has all that is open."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import opened
import pytest
from cluster_tools import Client, Remains, assert_no_files, shared_folder, unique_name

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "security.md"
NOBODY = 65534

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user to try what that one can do")


class Cluster:
    """A cluster and its client, which has waited and transferred."""

    def __init__(self, name: str, client: Client) -> None:
        remains = Remains(name)
        self.client = client
        self.folder, self.memory = remains.folder, shared_folder(name)
        self.pids = [remains.head, *(process.pid for process in remains.children), client.process.pid]
        self.files = {str(path) for top in (self.folder, self.memory) for path in top.rglob("*") if not path.is_dir()}
        self.sockets, self.ports = opened.unix_sockets(self.pids), opened.ports(self.pids)


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[Cluster]:
    name = unique_name()
    with Client([sys.executable, str(HERE / "access_client.py"), name]) as client:
        assert client.hear() == "open"
        yield Cluster(name, client)
        if client.process.poll() is None:  # A test let it go on already.
            client.say("go on")
            client.end()
    assert_no_files(name)


def rows() -> list[list[str]]:
    """The table's rows, as cells."""
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def patterns(cluster: Cluster) -> list[str]:
    """What the table says is open, for `fnmatch`."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    places = {"<cluster>": str(cluster.folder), "<memory>": str(cluster.memory), "<cache>": f"{cache}/polypath"}
    found = [name for row in rows() for name in re.findall(r"`([^`]+)`", row[0])]
    for place, path in places.items():
        found = [name.replace(place, path) for name in found]
    return found


def test_everything_that_is_open_is_in_the_table(cluster: Cluster) -> None:
    written = {path for path in opened.written_files(cluster.pids) if not path.startswith(("/dev/null", "/dev/pts"))}
    found = cluster.sockets | cluster.ports | cluster.files | written
    told = patterns(cluster)
    assert not [each for each in found if not any(fnmatch.fnmatch(each, pattern) for pattern in told)]
    assert not opened.system_v(cluster.pids)
    # It did look: each kind is there.
    kinds = ("ifrt.sock", "workers", "g0", "w*.shards", "r*.below", "/link", "w*.link", "tcp 127.0.0.1:*", "lock")
    for kind in kinds:
        assert fnmatch.filter(found, f"*{kind}"), kind


def test_every_row_names_a_test_that_exists() -> None:
    tests = "\n".join(path.read_text() for path in HERE.parent.rglob("test_*.py"))
    named = [re.findall(r"`(test_\w+)`", row[-1]) for row in rows()]
    assert all(named)
    assert not [name for names in named for name in names if f"def {name}(" not in tests]


def test_nothing_listens_where_networks_or_others_find_it(cluster: Cluster) -> None:
    assert not [name for name in cluster.sockets if name.startswith("@")]
    assert all(port.startswith("tcp 127.0.0.1:") for port in cluster.ports), cluster.ports


def test_no_secret_is_in_a_command_line(cluster: Cluster) -> None:
    for pid in cluster.pids:
        assert not re.search(rb"[0-9a-f]{32,}", Path(f"/proc/{pid}/cmdline").read_bytes())


@as_root
def test_another_user_reaches_nothing_and_breaks_nothing(cluster: Cluster) -> None:
    tried = {
        "paths": sorted(cluster.files | cluster.sockets),
        "folders": [str(cluster.folder), f"{cluster.folder}/logs", str(cluster.memory)],
        "pids": cluster.pids,
        "ports": [int(port.rpartition(":")[2]) for port in cluster.ports],
        "group": f"unix:{cluster.folder}/g0",
    }
    outsider = subprocess.run(
        [sys.executable, HERE / "outsider.py", str(NOBODY)],
        input=json.dumps(tried),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert outsider.returncode == 0, outsider.stderr
    assert json.loads(outsider.stdout) == []

    logs = "".join(path.read_text() for path in (cluster.folder / "logs").glob("worker-*.log"))
    assert f"Refused a connection of another user (uid {NOBODY})" in logs
    cluster.client.say("go on")
    status, out, err = cluster.client.end()
    assert (status, out) == (0, "ok\n"), err
