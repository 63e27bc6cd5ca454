"""What the user is told when the link to the head ends."""

import socket
import sys
from pathlib import Path

import msgspec
import pytest

from polypath.client.watch import Watch
from polypath.launch.runtime_dir import ClusterRecord

RECORD = ClusterRecord(
    name="t-a",
    pid=7,
    started=0,
    address="grpc://unix:/x/ifrt.sock",
    hosts=1,
    islands=1,
    shared_dir="/x",
    log_dir="/x",
)
GONE = (
    "\npolypath: the cluster 't-a' at grpc://unix:/x/ifrt.sock is gone, and with it all its values, because its head "
    "(pid 7) {}; see `polypath status`, and start it again with `polypath up`.\n"
)


@pytest.mark.parametrize(
    ("reason", "told", "sentence"),
    [
        ("", True, GONE.format("ended")),
        ("it did not answer for 20 s", False, GONE.format("is lost to this process (it did not answer for 20 s)")),
        (
            "it rained.",
            True,
            "\npolypath: the session with the cluster 't-a' ended, and with it all its values: it rained.\n",
        ),
    ],
)
def test_it_is_told_once(capfd: pytest.CaptureFixture[str], reason: str, told: bool, sentence: str) -> None:
    watch = Watch(RECORD)
    watch.ended(reason, told=told)
    watch.ended("again", told=True)
    assert capfd.readouterr().err == sentence


def test_a_stopped_watch_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    watch = Watch(RECORD)
    watch.stop()
    watch.stop()
    watch.ended("it rained.", told=True)
    assert capfd.readouterr().err == ""


def test_it_is_told_on_a_line_of_its_own_also_while_another_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    watch = Watch(RECORD)
    sys.stderr.write("Half of ")
    watch.ended("it rained.", told=True)
    sys.stderr.write("a line.\n")
    told = capfd.readouterr().err.splitlines()
    assert told[0] == "Half of "
    assert told[1].startswith("polypath: ")
    assert told[2] == "a line."


def test_who_waits_for_a_silent_head_hears_of_the_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All of this process's connections to the head's socket end, and no others."""
    ends: list[socket.socket] = []
    for name in ("ifrt.sock", "other"):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / name))
            listener.listen()
            for _ in range(2):
                ends.append(socket.socket(socket.AF_UNIX))
                ends[-1].connect(str(tmp_path / name))
                ends.append(listener.accept()[0])
    watch = Watch(msgspec.structs.replace(RECORD, address=f"grpc://unix:{tmp_path}/ifrt.sock"))
    watch.ended("it did not answer for 20 s", told=False)
    assert "is lost to this process" in capfd.readouterr().err
    for end in ends:
        end.setblocking(False)
    assert [end.recv(1) for end in ends[:4]] == [b""] * 4
    for end in ends[4:]:
        with pytest.raises(BlockingIOError):
            end.recv(1)
    for end in ends:
        end.close()
