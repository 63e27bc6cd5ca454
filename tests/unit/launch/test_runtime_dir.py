import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from polypath.errors import AlreadyRunning, ClusterError, NotRunning
from polypath.launch import runtime_dir
from polypath.launch.config import HeadConfig
from polypath.processes import start_time

DEAD = {"pid": 2**22 + 1, "started": 1}


def config_of(claim: runtime_dir.Claim) -> HeadConfig:
    return claim.config(2, 4, 1, "cpu", tied=True, debug=False)


def test_a_claim_makes_private_folders_and_takes_them_along(runtime: Path) -> None:
    claim = runtime_dir.claim("t-a")
    config = config_of(claim)
    for folder in (runtime, config.runtime_dir, config.shared_dir, config.log_dir):
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
    assert config.address == f"grpc://unix:{runtime}/t-a/ifrt.sock"
    assert config.address == config.address.lower()
    claim.remove()
    assert not Path(config.runtime_dir).exists()
    assert not Path(config.shared_dir).exists()
    claim.remove()


def test_a_name_is_taken_while_its_lock_is_held() -> None:
    claim = runtime_dir.claim("t-a")
    with pytest.raises(AlreadyRunning, match="'t-a' runs already: use it"):
        runtime_dir.claim("t-a")
    runtime_dir.claim("t-b").remove()
    claim.remove()
    runtime_dir.claim("t-a").remove()


def test_one_name_in_two_runtime_folders_is_two_clusters(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = runtime_dir.claim("t-a")
    kept = Path(config_of(first).shared_dir, "on-its-way")
    kept.touch()
    monkeypatch.setenv("POLYPATH_RUNTIME_DIR", f"{runtime}/b")
    second = runtime_dir.claim("t-a")
    assert config_of(second).shared_dir != str(kept.parent)
    second.remove()
    assert kept.exists()
    first.remove()  # It is that of the folder where it was claimed, whatever the variable says now.
    assert not kept.parent.exists()
    (runtime / "b").rmdir()


def test_a_head_removes_its_shared_memory_though_its_folder_is_gone(runtime: Path) -> None:
    claim = runtime_dir.claim("t-a")
    config = config_of(claim)
    shutil.rmtree(config.runtime_dir)
    runtime_dir.remove(config)
    assert not Path(config.shared_dir).exists()
    claim.release()


def test_a_link_to_elsewhere_is_not_followed(tmp_path: Path) -> None:
    claim = runtime_dir.claim("t-a")
    (claim.path / "shared").symlink_to(tmp_path)
    claim.remove()
    assert tmp_path.exists()


def test_an_old_claim_does_not_remove_the_next_ones_files(runtime: Path) -> None:
    old = runtime_dir.claim("t-a")
    runtime_dir.remove(config_of(old))  # What the head does at its end.
    new = runtime_dir.claim("t-a")
    old.remove()
    assert (runtime / "t-a" / "lock").exists()
    new.remove()


def test_a_cluster_is_found_by_name_or_by_being_the_only_one() -> None:
    with pytest.raises(NotRunning, match="No cluster runs here: start one with `polypath up`"):
        runtime_dir.find()
    claim = runtime_dir.claim("t-a")
    runtime_dir.mark_ready(config_of(claim), "cpu", 8)
    found = runtime_dir.find()
    assert (found.name, found.ready, found.devices, found.pid) == ("t-a", True, 8, os.getpid())
    assert runtime_dir.find("t-a") == found
    with pytest.raises(NotRunning, match="No cluster named 'b'"):
        runtime_dir.find("b")

    second = runtime_dir.claim("t-b")
    runtime_dir.mark_ready(config_of(second), "cpu", 8)
    with pytest.raises(ClusterError, match=r"several clusters \(t-a, t-b\): say which"):
        runtime_dir.find()
    second.remove()
    claim.remove()


def test_a_dead_cluster_is_stale_and_its_name_can_be_taken(runtime: Path) -> None:
    claim = runtime_dir.claim("t-a")
    config = config_of(claim)
    Path(config.socket).touch()
    record = runtime_dir.record_of(config, os.getpid())
    assert not record.stale
    runtime_dir.publish(runtime_dir.msgspec.structs.replace(record, **DEAD))
    claim.release()
    assert [r.stale for r in runtime_dir.records()] == [True]
    with pytest.raises(NotRunning, match=r"'t-a' is stale: its head .* clean up with `polypath down --name t-a`"):
        runtime_dir.find()
    again = runtime_dir.claim("t-a")
    assert [entry.name for entry in (runtime / "t-a").iterdir()] == ["lock"]
    again.remove()


def test_a_reused_pid_is_not_the_head() -> None:
    claim = runtime_dir.claim("t-a")
    record = runtime_dir.record_of(config_of(claim), os.getpid())
    started = start_time(os.getpid())
    assert started is not None
    assert runtime_dir.msgspec.structs.replace(record, started=started - 1).stale
    claim.remove()


def test_a_damaged_record_is_told(runtime: Path) -> None:
    claim = runtime_dir.claim("t-a")
    (runtime / "t-a" / "cluster.json").write_text("{")
    with pytest.raises(runtime_dir.DamagedRecord, match=r"is damaged .*: remove it with"):
        runtime_dir.find("t-a")
    claim.release()
    runtime_dir.remove_stale("t-a")


def test_a_folder_that_others_may_enter_is_refused(runtime: Path) -> None:
    runtime.mkdir(mode=0o755)
    with pytest.raises(ClusterError, match=r"Other users may enter .* `chmod 700"):
        runtime_dir.claim("t-a")


def test_a_folder_that_others_may_replace_is_refused(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.mkdir()
    runtime.chmod(0o777)
    monkeypatch.setenv("POLYPATH_RUNTIME_DIR", f"{runtime}/a")
    with pytest.raises(
        ClusterError, match=rf"put another folder in place of {runtime}/a, as they may write to {runtime}:"
    ):
        runtime_dir.claim("t-a")
    (runtime / "a").rmdir()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make another user's folder")
def test_a_folder_of_another_user_is_refused_with_advice_that_helps(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.mkdir(mode=0o700)
    os.chown(runtime, 12345, -1)
    with pytest.raises(ClusterError, match=r"belongs to another user \(uid 12345\)") as refused:
        runtime_dir.claim("t-a")
    advice = re.search("`export (.*)=~/(.*)` for instance", str(refused.value))
    assert advice is not None
    monkeypatch.setenv(advice[1], f"{runtime}-home/{advice[2]}")  # Followed, in a home of our own.
    runtime_dir.claim("t-a").remove()
    shutil.rmtree(f"{runtime}-home")


def test_a_link_is_no_folder(runtime: Path, tmp_path: Path) -> None:
    runtime.symlink_to(tmp_path)
    with pytest.raises(ClusterError, match="is in the way"):
        runtime_dir.claim("t-a")
    runtime.unlink()


@pytest.mark.parametrize("path", ["/tmp/Polypath", "relative"])
def test_a_path_that_jax_would_change_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPATH_RUNTIME_DIR", path)
    with pytest.raises(ClusterError, match="JAX lower-cases"):
        runtime_dir.claim("t-a")


@pytest.mark.parametrize("character", "#?,%")
def test_a_path_that_no_address_can_have_is_refused(character: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPATH_RUNTIME_DIR", f"/tmp/a{character}b")
    with pytest.raises(ClusterError, match=f"cannot have {re.escape(character)} in it; name another folder"):
        runtime_dir.claim("t-a")


def test_a_path_too_long_for_sockets_is_refused(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = runtime / ("x" * (runtime_dir.PATH_LIMIT - len(f"{runtime}//t-a")))
    monkeypatch.setenv("POLYPATH_RUNTIME_DIR", str(longest))
    claim = runtime_dir.claim("t-a")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(claim.path / runtime_dir._LONGEST_SOCKET))
    claim.remove()
    monkeypatch.setenv("POLYPATH_RUNTIME_DIR", f"{longest}x")
    with pytest.raises(ClusterError, match=r"is 85 bytes long and may have 84, .* name a shorter folder"):
        runtime_dir.claim("t-a")
    longest.rmdir()


def test_shared_memory_without_room_is_told_with_advice_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_dir, "_SHARED_MEMORY", Path("/proc"))  # Where nobody can make a folder.
    claim = runtime_dir.claim("t-a")
    with pytest.raises(
        ClusterError, match=r"^/proc/polypath-t-a-\w+ cannot be used \(.*\): .* mount -o remount,size=8G"
    ):
        config_of(claim)
    claim.remove()


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(runtime_dir.Path, "home", unknown)
    assert runtime_dir.cache_dir() == ""


def test_the_lock_goes_with_its_last_holder() -> None:
    claim = runtime_dir.claim("t-a")
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(claim.fd,), env=os.environ
    )
    claim.release()
    with pytest.raises(AlreadyRunning):
        runtime_dir.claim("t-a")
    child.communicate(b"\n")
    runtime_dir.claim("t-a").remove()
