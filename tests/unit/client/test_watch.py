import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from polypath.client.folder import make_folder
from polypath.client.watch import HeadWatch
from polypath.frontend.farewell import Farewell
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
        f"\npolypath: the cluster 't-a' at grpc://unix:/x/ifrt.sock is gone, and with it all its values, because its "
        f"head (pid {head.pid}) ended: see `polypath status`, and start it again with `polypath up`.\n"
    )


def test_a_stopped_watch_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    watch = HeadWatch(record(os.getpid()))
    watch.stop()
    watch.stop()
    assert capfd.readouterr().err == ""
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_end_of_the_session_is_told_with_its_reason(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    assert folder is not None
    watch = HeadWatch(record(os.getpid()), folder)
    farewell = Farewell(folder)
    farewell.say("it rained.")
    watch._told.wait(10)  # pyright: ignore[reportPrivateUsage]
    watch.stop()
    farewell.say("It is over.")
    assert capfd.readouterr().err == (
        "\npolypath: the session with the cluster 't-a' ended, and with it all its values: it rained.\n"
    )


def test_it_is_told_on_a_line_of_its_own_also_while_another_is_written(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = make_folder(tmp_path)
    assert folder is not None
    watch = HeadWatch(record(os.getpid()), folder)
    sys.stderr.write("Half of ")
    Farewell(folder).say("it rained.")
    watch._told.wait(10)  # pyright: ignore[reportPrivateUsage]
    sys.stderr.write("a line.\n")
    watch.stop()
    told = capfd.readouterr().err.splitlines()
    assert told[0] == "Half of "
    assert told[1].startswith("polypath: ")
    assert told[2] == "a line."


def test_a_folder_that_goes_away_ends_the_wait_at_exit(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    assert folder is not None
    watch = HeadWatch(record(os.getpid()), folder)
    shutil.rmtree(folder)
    watch._stop_at_exit()  # pyright: ignore[reportPrivateUsage]


def test_an_end_without_a_reason_is_no_news(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    assert folder is not None
    watch = HeadWatch(record(os.getpid()), folder)
    Farewell(folder).say()
    watch._told.wait(10)  # pyright: ignore[reportPrivateUsage]
    watch.stop()
    assert capfd.readouterr().err == ""


def test_nobody_is_told_who_does_not_listen(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    assert folder is not None
    Farewell(folder).say("Nobody hears it.")
    Farewell(tmp_path).say("There is no pipe.")
    Farewell(None).say("There is no folder.")
