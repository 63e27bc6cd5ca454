"""What the tests of real clusters share: the command, clients in processes of their own, and what a cluster leaves.

Nothing here imports JAX or gRPC, and nothing sleeps: ends of processes are waited for on
pidfds, lines on pipes.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

POLYPATH = (sys.executable, "-m", "polypath.cli")
TIMEOUT = 90.0
UNSHARE = ("unshare", "--mount")
HERE = Path(__file__).parent


class Way(NamedTuple):
    """How a client's arrays go, and how it waits."""

    name: str
    """`links`, or `jaxlib` where it has none."""
    variables: dict[str, str]


def unique_name() -> str:
    return f"test-{os.getpid()}-{secrets.token_hex(2)}"


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, less what configures JAX, with `variables`."""
    dropped = ("JAX_", "XLA_", "IFRT_", "TF_CPP_", "PYTEST")
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | dict(variables or {})


def polypath(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """The command, which must end with `status`."""
    done = subprocess.run(
        [*POLYPATH, *arguments], env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == status, f"polypath {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def refusal(*arguments: str) -> str:
    """The one sentence with which the command refuses."""
    done = polypath(*arguments, status=1)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("polypath: ")
    return line.removeprefix("polypath: ")


def status_of(name: str) -> dict[str, Any]:
    return json.loads(polypath("status", "--json", "--name", name).stdout)


def wait_no_sessions(name: str) -> dict[str, Any]:
    """The status once no client is connected; each look is a command, which takes its time."""
    for _ in range(30):
        if not (found := status_of(name))["controller"]["sessions"]:
            return found
    raise AssertionError(f"sessions stay: {found['controller']['sessions']}")


def start_detached(name: str, *arguments: str) -> dict[str, Any]:
    """What `polypath up --detach --json` printed."""
    return json.loads(polypath("up", "--detach", "--json", "--platform", "cpu", "--name", name, *arguments).stdout)


def shared_folder(name: str) -> Path:
    """The cluster's folder in shared memory."""
    return (Path(os.environ["POLYPATH_RUNTIME_DIR"]) / name / "shared").readlink()


class Client:
    """A process that is talked to by lines; killed at the end of its `with` block if it still runs."""

    def __init__(self, command: Iterable[str], variables: Mapping[str, str] | None = None, **more: Any) -> None:
        self.process = subprocess.Popen(
            list(command),
            env=environment(variables) | {"PYTHONUNBUFFERED": "1"},
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | more,
        )

    @classmethod
    def python(cls, code: str, variables: Mapping[str, str] | None = None) -> Self:
        return cls([sys.executable, "-c", code], variables)

    @classmethod
    def program(cls, name: str, *arguments: str, variables: Mapping[str, str] | None = None) -> Self:
        """A program in a file beside this one."""
        return cls([sys.executable, str(HERE / name), *arguments], variables)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        out, err = self.process.communicate(timeout=TIMEOUT)
        if error is not None:
            error.add_note(f"the client's stdout: {out}\nand stderr: {err}")

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self, pipe: str = "stdout") -> str:
        """Its next line; empty if it ended."""
        return getattr(self.process, pipe).readline().rstrip("\n")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, timeout: float = TIMEOUT) -> tuple[int, str, str]:
        """Exit status, and what was left on stdout and stderr."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err


def run_python(code: str, variables: Mapping[str, str] | None = None) -> str:
    """The stdout of a program that must succeed."""
    with Client.python(code, variables) as client:
        return _output(client)


def run_program(name: str, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
    """The stdout of a program in a file beside this one, which must succeed."""
    with Client.program(name, *arguments, variables=variables) as client:
        return _output(client)


def _output(client: Client) -> str:
    status, out, err = client.end()
    assert status == 0, out + err
    return out


def wait_exit(pid: int, timeout: float) -> bool:
    """Wait until `pid`, which need not be our child, has ended; False if it has not in time."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    finally:
        os.close(fd)


class Remains:
    """A cluster's processes, files and shared memory, to see that they are gone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(os.environ["POLYPATH_RUNTIME_DIR"]) / name
        record = json.loads((self.folder / "cluster.json").read_bytes())
        self.shared = Path(record["shared_dir"])
        self.head = record["pid"]
        head = psutil.Process(self.head)
        self.children = head.children(recursive=True)
        self._pidfds = [os.pidfd_open(process.pid) for process in (head, *self.children)]
        assert self.shared.is_dir()

    def wait_processes(self, timeout: float = 30) -> None:
        """Fail unless every process of the cluster ends in time."""
        deadline = time.monotonic() + timeout
        for fd in self._pidfds:
            assert select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0], f"{self.name} still runs"
            os.close(fd)
        self._pidfds.clear()

    def check_nothing_left(self, timeout: float = 30) -> None:
        self.wait_processes(timeout)
        assert_no_files(self.name)

    def kill_head(self) -> None:
        os.kill(self.head, signal.SIGKILL)


def can_mount() -> bool:
    """Whether a process under `UNSHARE` can mount what others do not see."""
    if os.getuid():
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


def assert_no_files(name: str) -> None:
    """No file, folder, shared memory or socket has the cluster's name."""
    root = Path(os.environ["POLYPATH_RUNTIME_DIR"])
    assert not (root / name).exists(), list((root / name).rglob("*"))
    assert not [path.name for path in Path("/dev/shm").iterdir() if name in path.name]
    assert f"/{name}/" not in Path("/proc/net/unix").read_text()
