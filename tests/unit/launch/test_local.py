import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cluster_tools import wait_exit

from polypath.errors import ClusterError
from polypath.launch.base import WorkerExit, WorkerSpec
from polypath.launch.local import LocalLauncher, worker_environment

WORKER = """
import os, signal, sys
config = sys.stdin.readline().strip()
print("config", config, "platform", os.environ.get("JAX_PLATFORMS"), flush=True)
if config == "fail":
    sys.exit("no devices here")
if config == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
sys.stdin.read()
"""


class Fixture:
    def __init__(self, launcher: LocalLauncher, exits: asyncio.Queue[WorkerExit], logs: Path) -> None:
        self.launcher = launcher
        self.exits = exits
        self.logs = logs


@asynccontextmanager
async def launcher(tmp_path: Path, grace: float = 5.0) -> AsyncIterator[Fixture]:
    (tmp_path / "fake_worker.py").write_text(WORKER)
    exits: asyncio.Queue[WorkerExit] = asyncio.Queue()
    local = LocalLauncher(
        exits.put_nowait,
        log_dir=tmp_path,
        platform="cpu",
        module="fake_worker",
        rendezvous="fake_worker",
        environ=os.environ | {"PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "proxy"},
        grace=grace,
    )
    try:
        yield Fixture(local, exits, tmp_path)
    finally:
        await local.stop()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(limited())


async def wait_for_log(path: Path, word: str) -> None:
    """Until a worker has written `word`: it says so through the file, which is read as it grows."""
    tail = await asyncio.create_subprocess_exec(
        "tail", "-n", "+1", "-s", "0.02", "-F", str(path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert tail.stdout is not None
    async for line in tail.stdout:
        if word in line.decode():
            break
    tail.kill()
    await tail.wait()
    tail._transport.close()  # pyright: ignore  # Else it warns at the loop's end.


def test_a_worker_gets_its_config_and_ends_at_stop(tmp_path: Path) -> None:
    async def test() -> None:
        async with launcher(tmp_path) as it:
            pids = await it.launcher.start(0, [WorkerSpec(0, b"hello"), WorkerSpec(1, b"there")])
            await wait_for_log(tmp_path / "worker-1.log", "config there platform cpu")
            await it.launcher.stop()
            assert it.exits.empty()
            assert all(wait_exit(pid, 0) for pid in pids.values())

    run(test)


def test_a_kill_is_told_with_its_signal(tmp_path: Path) -> None:
    async def test() -> None:
        async with launcher(tmp_path) as it:
            pids = await it.launcher.start(0, [WorkerSpec(3, b"x")])
            os.kill(pids[3], signal.SIGKILL)
            assert await it.exits.get() == WorkerExit(3, pids[3], -9, "killed by SIGKILL")

    run(test)


def test_a_worker_that_is_stopped_can_be_killed_and_it_is_told_why(tmp_path: Path) -> None:
    async def test() -> None:
        async with launcher(tmp_path) as it:
            pids = await it.launcher.start(0, [WorkerSpec(3, b"x")])
            os.kill(pids[3], signal.SIGSTOP)
            await it.launcher.kill(3, "did not answer")
            assert await it.exits.get() == WorkerExit(3, pids[3], -9, "did not answer")

    run(test)


def test_a_failure_is_told_with_the_last_words_of_this_start(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "worker-0.log").write_text("something old\n")
        async with launcher(tmp_path) as it:
            await it.launcher.start(0, [WorkerSpec(0, b"fail")])
            exit_ = await it.exits.get()
            assert exit_.cause == "exited with status 1; its last words: no devices here"
            assert (tmp_path / "worker-0.log").read_text().startswith("something old\n")

    run(test)


def test_a_new_start_replaces_a_process_in_silence(tmp_path: Path) -> None:
    async def test() -> None:
        async with launcher(tmp_path) as it:
            first = await it.launcher.start(0, [WorkerSpec(0, b"x")])
            second = await it.launcher.start(0, [WorkerSpec(0, b"y")])
            assert first != second
            assert wait_exit(first[0], 0)
            assert it.exits.empty()
            await it.launcher.kill(0)
            assert (await it.exits.get()).pid == second[0]
            await it.launcher.kill(0)

    run(test)


def test_a_worker_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    async def test() -> None:
        async with launcher(tmp_path, grace=0.1) as it:
            pids = await it.launcher.start(0, [WorkerSpec(0, b"deaf")])
            await wait_for_log(tmp_path / "worker-0.log", "deaf")
            await it.launcher.stop()
            assert wait_exit(pids[0], 0)

    run(test)


def test_a_worker_dies_with_a_head_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text("import signal\nprint('up', flush=True)\nsignal.pause()\n")
    head = f"""
import asyncio, os
from pathlib import Path
from polypath.launch.base import WorkerSpec
from polypath.launch.local import LocalLauncher
async def main():
    local = LocalLauncher(print, log_dir=Path({str(tmp_path)!r}), module="stubborn",
                          environ=os.environ | {{"PYTHONPATH": {str(tmp_path)!r}}})
    print((await local.start(0, [WorkerSpec(0, b"x")]))[0], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", head], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        asyncio.run(wait_for_log(tmp_path / "worker-0.log", "up"))
        process.kill()
    assert wait_exit(pid, 10)


def test_a_worker_does_not_inherit_what_would_make_it_a_client() -> None:
    env = worker_environment(
        {
            "JAX_PLATFORMS": "proxy",
            "JAX_BACKEND_TARGET": "grpc://x",
            "JAX_NUM_CPU_DEVICES": "3",
            "IFRT_PROXY_USE_INSECURE_GRPC_CREDENTIALS": "true",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_dump_to=/x",
            "HOME": "/h",
            "OMP_NUM_THREADS": "2",
        },
        None,
    )
    assert env == {
        "XLA_FLAGS": "--xla_dump_to=/x",
        "HOME": "/h",
        "OMP_NUM_THREADS": "2",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.mark.parametrize("flag", ["--xla_force_host_platform_device_count=2", ""])
def test_flags_that_are_all_ours_vanish(flag: str) -> None:
    assert "XLA_FLAGS" not in worker_environment({"XLA_FLAGS": flag}, "cpu")


def test_workers_memory_is_on_huge_pages_unless_the_user_says_no() -> None:
    assert worker_environment({}, None)["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    for tunables, wanted in {
        "glibc.malloc.hugetlb=0": "glibc.malloc.hugetlb=0",
        "glibc.malloc.check=3": "glibc.malloc.check=3:glibc.malloc.hugetlb=1",
    }.items():
        assert worker_environment({"GLIBC_TUNABLES": tunables}, None)["GLIBC_TUNABLES"] == wanted


def test_workers_whose_rendezvous_ends_do_not_wait_for_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with launcher(tmp_path) as at:
            specs = [WorkerSpec(host, b"deaf") for host in range(2)]
            pids = await at.launcher.start(0, specs, rendezvous=b"fail")
            other = await at.launcher.start(1, [WorkerSpec(2, b"other")])
            exits = sorted([await at.exits.get() for _ in specs], key=lambda exit_: exit_.host)
            assert [(exit_.host, exit_.pid) for exit_ in exits] == sorted(pids.items())
            assert all("lost its island's rendezvous (exited with status 1;" in exit_.cause for exit_ in exits)
            assert all("no devices here" in exit_.cause for exit_ in exits)
            assert not wait_exit(other[2], 0)  # Another island's.

    run(test)


def test_a_log_that_cannot_be_written_is_told_and_starts_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        async with launcher(tmp_path) as at:
            (at.logs / "worker-1.log").mkdir()
            with pytest.raises(
                ClusterError, match=r"could not be started: .*worker-1.log cannot be used \(Is a direct"
            ):
                await at.launcher.start(0, [WorkerSpec(0, b"a"), WorkerSpec(1, b"b")])

    run(test)
