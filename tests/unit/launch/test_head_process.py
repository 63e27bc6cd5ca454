from pathlib import Path

import psutil
import pytest

from polypath.errors import AlreadyRunning, ClusterError
from polypath.launch import runtime_dir
from polypath.launch.head_process import HeadProcess


def start(command: list[str], *, tied: bool = True, name: str = "t-a", hosts: int = 1) -> HeadProcess:
    return HeadProcess.start(
        name, hosts=hosts, devices_per_host=None, islands=1, platform=None, tied=tied, command=command
    )


def test_a_tied_head_ends_when_its_stdin_does(fake_head: list[str]) -> None:
    with start([*fake_head, "ready"]) as head:
        assert not runtime_dir.records()[0].stale
        reply = head.wait_ready()
        assert (reply.ready, reply.devices) == (True, 8)
        assert runtime_dir.find().ready
        process = psutil.Process(head.pid)
    assert not process.is_running()
    assert runtime_dir.records() == []


def test_a_detached_head_goes_on_until_it_is_told(fake_head: list[str]) -> None:
    head = start([*fake_head, "ready"], tied=False)
    head.wait_ready()
    process = psutil.Process(head.pid)
    head.detach()
    head.close()
    assert process.is_running()
    with pytest.raises(AlreadyRunning):
        start([*fake_head, "ready"])
    process.terminate()
    process.wait()


def test_a_refusal_is_the_heads_own_sentence(fake_head: list[str]) -> None:
    with pytest.raises(ClusterError, match=r"^Port 1 is in use: choose another\.$"):
        start([*fake_head, "refuse"]).wait_ready()


def test_a_head_that_dies_is_told_with_its_last_words(fake_head: list[str]) -> None:
    with pytest.raises(ClusterError, match="exited with status 1; its last words: the sky fell"):
        start([*fake_head, "crash"]).wait_ready()


def test_a_head_that_talks_nonsense_is_told(fake_head: list[str]) -> None:
    with pytest.raises(ClusterError, match="which is no reply of a head"):
        start([*fake_head, "garbage"]).wait_ready()


def test_a_head_that_says_nothing_is_given_up(fake_head: list[str]) -> None:
    with pytest.raises(ClusterError, match="did not come up within 0 seconds"):
        start([*fake_head, "silent"]).wait_ready(timeout=0.3)


def test_a_head_that_does_not_listen_is_killed(fake_head: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polypath.launch.head_process.STOP_GRACE", 0.1)
    head = start([*fake_head, "deaf"], tied=False)
    head.wait_ready()
    head.close()


def test_a_name_that_is_taken_starts_nothing(fake_head: list[str]) -> None:
    with start([*fake_head, "ready"]) as head:
        head.wait_ready()
        with pytest.raises(AlreadyRunning):
            start([*fake_head, "ready"])


def test_a_cluster_that_cannot_be_leaves_nothing(fake_head: list[str], runtime: Path) -> None:
    with pytest.raises(ClusterError, match="at least one host"):
        start([*fake_head, "ready"], hosts=0)
    assert not runtime.exists()


def test_a_command_that_is_not_there_leaves_nothing() -> None:
    with pytest.raises(ClusterError, match="could not be started with /nonexistent"):
        start(["/nonexistent"])
