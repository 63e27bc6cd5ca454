import os
import subprocess
import sys
from pathlib import Path

import pytest

from polypath.client.watch import HeadWatch
from polypath.launch.runtime_dir import ClusterRecord
from polypath.processes import start_time


def record(pid: int) -> ClusterRecord:
    return ClusterRecord(
        name="t-a",
        pid=pid,
        started=start_time(pid) or 0,
        address="grpc://unix:/x/ifrt.sock",
        hosts=1,
        islands=1,
        shared_dir="/x",
        log_dir="/x",
    )


def test_the_end_of_the_head_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as head:
        watch = HeadWatch(record(head.pid))
        head.communicate(b"\n")
        watch._thread.join(10)  # pyright: ignore[reportPrivateUsage]
        watch.stop()
    assert capfd.readouterr().err == (
        f"polypath: the cluster 't-a' at grpc://unix:/x/ifrt.sock is gone, and with it all its values, because its "
        f"head (pid {head.pid}) ended: see `polypath status`, and start it again with `polypath up`.\n"
    )


def test_a_stopped_watch_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    watch = HeadWatch(record(os.getpid()))
    watch.stop()
    watch.stop()
    assert capfd.readouterr().err == ""
    assert len(list(Path("/proc/self/fd").iterdir())) == before
