"""The command, in processes of its own, with a head that has no cluster behind it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from polypath.launch import runtime_dir

DRIVER = """
import sys
from polypath.launch import head_process
head_process.HEAD_COMMAND = {command!r}
from polypath.cli import main
main()
"""


class Cli:
    """`polypath`, with fake heads of some mode."""

    def __init__(self, fake_head: list[str]) -> None:
        self._fake_head = fake_head
        self.mode = "ready"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", DRIVER.format(command=[*self._fake_head, self.mode]), *arguments]

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=60, check=False)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )


@pytest.fixture
def cli(fake_head: list[str]) -> Cli:
    return Cli(fake_head)


@pytest.fixture
def cluster(cli: Cli) -> Iterator[str]:
    """A detached cluster's name."""
    assert cli("up", "--detach", "--name", "t-a", "--hosts", "2").returncode == 0
    yield "t-a"
    cli("down", "--name", "t-a")


def test_up_detached_prints_the_address_and_down_ends_it(cli: Cli, runtime: Path) -> None:
    up = cli("up", "--detach", "--name", "t-a")
    assert (up.returncode, up.stdout, up.stderr) == (0, f"grpc://unix:{runtime}/t-a/ifrt.sock\n", "")
    again = cli("up", "--name", "t-a")
    assert again.returncode == 1
    assert again.stderr.startswith("polypath: A cluster named 't-a' runs already: use it")
    down = cli("down")
    assert (down.returncode, down.stderr) == (0, "Cluster 't-a' is down.\n")
    assert list(runtime.iterdir()) == []


def test_up_json(cli: Cli, cluster: str) -> None:
    up = cli("up", "--detach", "--json", "--name", "t-b")
    assert json.loads(up.stdout)["devices"] == 8
    assert cli("down", "--all").returncode == 0
    assert runtime_dir.records() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_the_foreground_cluster_down(cli: Cli, runtime: Path, number: signal.Signals) -> None:
    with cli.start("up", "--name", "t-a") as up:
        assert up.stderr is not None
        assert up.stderr.readline().startswith("Cluster 't-a' is up with 8 cpu devices at grpc://")
        up.send_signal(number)
        assert up.wait(30) == 128 + number
        assert "Traceback" not in up.stderr.read()
    assert list(runtime.iterdir()) == []


def test_down_ends_the_foreground_command_in_order(cli: Cli) -> None:
    with cli.start("up", "--name", "t-a") as up:
        assert up.stderr is not None
        up.stderr.readline()
        assert cli("down").returncode == 0
        assert up.wait(30) == 0


def test_a_killed_command_leaves_nothing(cli: Cli, runtime: Path) -> None:
    from cluster_tools import wait_exit

    with cli.start("up", "--name", "t-a") as up:
        assert up.stderr is not None
        up.stderr.readline()
        head = runtime_dir.find("t-a").pid
        up.kill()
    assert wait_exit(head, 30)
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "arguments", "sentence"),
    [
        ("refuse", (), "Port 1 is in use: choose another."),
        ("crash", (), "The cluster's head exited with status 1; its last words: the sky fell"),
        ("ready", ("--hosts", "0"), "A cluster needs at least one host, not 0"),
        ("ready", ("--devices-per-host", "0"), "A host needs at least one device, not 0"),
        ("ready", ("--hosts", "3", "--islands", "2"), "3 hosts cannot be split into 2 islands"),
        ("ready", ("--platform", "an abacus"), "There is no platform 'an abacus': say cpu, cuda, rocm, tpu"),
        ("ready", ("--name", "A/B"), "'A/B' cannot name a cluster"),
    ],
)
def test_what_cannot_be_is_one_sentence(cli: Cli, mode: str, arguments: tuple[str, ...], sentence: str) -> None:
    cli.mode = mode
    done = cli("up", "--name", "t-a", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"polypath: {sentence}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("env",), ("status",), ("logs",), ("down",), ("env", "--name", "t-x")])
def test_nobody_there_is_one_sentence(cli: Cli, command: tuple[str, ...]) -> None:
    done = cli(*command)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"polypath: No cluster .*: .*\n", done.stderr)


def test_stack_traces_only_when_asked_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" in cli("--debug", "env").stderr
    monkeypatch.setenv("POLYPATH_DEBUG", "1")
    assert "Traceback" in cli("env").stderr


def test_usage_is_status_2(cli: Cli) -> None:
    assert cli("up", "--nonsense").returncode == 2
    assert cli("nonsense").returncode == 2
    assert cli("up", "--hosts", "many").returncode == 2


def test_the_version(cli: Cli) -> None:
    import polypath

    assert cli("--version").stdout == f"polypath {polypath.__version__}\n"


def test_a_stale_cluster_is_told_and_cleaned_up(cli: Cli, cluster: str, runtime: Path) -> None:
    head = runtime_dir.find(cluster).pid
    os.kill(head, signal.SIGKILL)
    from cluster_tools import wait_exit

    assert wait_exit(head, 10)
    for command in ("env", "status"):
        assert cli(command).stderr.startswith(f"polypath: Cluster 't-a' is stale: its head (pid {head}) ended")
    assert cli("logs", "--name", "t-a", "--host", "0").stdout == "one\ntwo\nthree\n"
    assert "'t-a' is stale" in cli("doctor").stdout
    assert cli("down").stderr == "Cluster 't-a' was dead already; what it left is removed.\n"
    assert list(runtime.iterdir()) == []


def test_a_damaged_record_is_told_and_cleaned_up(cli: Cli, cluster: str, runtime: Path) -> None:
    head = runtime_dir.find(cluster).pid
    os.kill(head, signal.SIGKILL)
    (runtime / "t-a" / "cluster.json").write_text("{")
    assert "is damaged" in cli("env", "--name", "t-a").stderr
    assert cli("down", "--name", "t-a").returncode == 0
    assert list(runtime.iterdir()) == []


def test_env_is_for_shells_and_programs(cli: Cli, cluster: str, runtime: Path) -> None:
    script = cli("env").stdout
    told = subprocess.run(
        ["sh", "-c", f'{script}\necho "$JAX_PLATFORMS $JAX_BACKEND_TARGET"'], capture_output=True, text=True, check=True
    )
    assert told.stdout == f"proxy grpc://unix:{runtime}/t-a/ifrt.sock\n"
    assert json.loads(cli("env", "--json").stdout)["JAX_PLATFORMS"] == "proxy"


def test_a_cluster_that_is_still_starting_is_told(cli: Cli, cluster: str) -> None:
    record = runtime_dir.find()
    runtime_dir.publish(msgspec.structs.replace(record, ready=False))
    assert cli("env").stderr == "polypath: Cluster 't-a' is still starting: try again in a moment.\n"


def test_logs(cli: Cli, cluster: str) -> None:
    assert cli("logs", "-n", "2").stdout == "worker-0: two\nworker-0: three\n"
    assert cli("logs", "--host", "0", "-n", "1").stdout == "three\n"
    assert cli("logs", "--host", "1").stdout == ""
    assert "has no host 2: its hosts are 0 to 1" in cli("logs", "--host", "2").stderr


def test_logs_have_those_of_relays_and_rendezvous_too(cli: Cli, cluster: str) -> None:
    folder = Path(runtime_dir.find().log_dir)
    for name in ("relay-10", "relay-9", "rendezvous-0"):
        (folder / f"{name}.log").write_text(f"I am {name}\n")
    assert cli("logs", "-n", "1").stdout == (
        "relay-9: I am relay-9\nrelay-10: I am relay-10\nrendezvous-0: I am rendezvous-0\nworker-0: three\n"
    )


def test_a_file_that_cannot_be_read_is_one_sentence(cli: Cli, cluster: str) -> None:
    log = Path(runtime_dir.find().log_dir) / "worker-0.log"
    log.unlink()
    log.mkdir()
    done = cli("logs")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"polypath: {log} cannot be used (Is a directory): ")
    assert done.stderr.count("\n") == 1


def test_logs_follow_until_the_cluster_ends(cli: Cli, cluster: str) -> None:
    log = Path(runtime_dir.find().log_dir) / "worker-0.log"
    with cli.start("logs", "--host", "0", "-n", "1", "-f") as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == "three\n"
        with log.open("a") as file:
            file.write("four\n")
        assert logs.stdout.readline() == "four\n"
        cli("down")
        assert logs.wait(30) == 0


SCRIPT = """
import os, signal, sys
print(os.environ["JAX_BACKEND_TARGET"].partition(":")[0], *sys.argv[1:], flush=True)
if "wait" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    print("waits", flush=True)
    signal.pause()
if "abort" in sys.argv:
    os.kill(os.getpid(), 9)
sys.exit(int(sys.argv[-1]))
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "user_script.py"
    path.write_text(SCRIPT)
    return str(path)


def test_run_passes_arguments_and_the_exit_status(cli: Cli, script: str, runtime: Path) -> None:
    done = cli("run", "--hosts", "2", script, "--hosts", "9", "-m", "3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "grpc --hosts 9 -m 3\n", "")
    assert list(runtime.iterdir()) == []


def test_run_a_module(cli: Cli, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(script).parent))
    done = cli("run", "-m", "user_script", "0")
    assert (done.returncode, done.stdout) == (0, "grpc 0\n"), done.stderr


def test_run_tells_a_script_that_was_killed(cli: Cli, script: str) -> None:
    assert cli("run", script, "abort").returncode == 128 + signal.SIGKILL


def test_run_passes_signals_on(cli: Cli, script: str, runtime: Path) -> None:
    with cli.start("run", script, "wait") as run:
        assert run.stdout is not None
        assert [run.stdout.readline() for _ in range(2)][1] == "waits\n"
        run.terminate()
        assert run.wait(30) == 7
    assert list(runtime.iterdir()) == []


def test_a_run_that_is_killed_leaves_nothing(cli: Cli, script: str, runtime: Path) -> None:
    from cluster_tools import wait_exit

    with cli.start("run", script, "wait") as run:
        assert run.stdout is not None
        assert [run.stdout.readline() for _ in range(2)][1] == "waits\n"
        head = runtime_dir.find().pid
        run.kill()
        assert run.stdout.read() == ""  # The script has ended too.
    assert wait_exit(head, 30)
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize(
    "words", [("--typo",), ("--host", "2"), ("-q",), ("--hosts", "1", "--hostz=2"), ("-m", "--typo")]
)
def test_run_refuses_an_option_that_it_does_not_know(cli: Cli, runtime: Path, words: tuple[str, ...]) -> None:
    done = cli("run", *words, "script.py")
    unknown = next(word for word in words if word not in ("--hosts", "1", "-m"))
    assert done.returncode == 2
    told = " ".join(done.stderr.replace("│", " ").split())
    assert f"there is no option {unknown}. Options of the script come after it" in told
    assert "a script of that name comes after `--`" in told
    assert not runtime.exists()


def test_run_takes_a_script_that_is_called_like_an_option(
    cli: Cli, script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(script).rename(tmp_path / "--typo")
    monkeypatch.chdir(tmp_path)
    done = cli("run", "--hosts", "1", "--", "--typo", "--more", "3")
    assert (done.returncode, done.stdout) == (3, "grpc --more 3\n"), done.stderr


def test_run_wants_a_script_that_exists(cli: Cli, runtime: Path) -> None:
    assert cli("run", "nothing.py").stderr.startswith("polypath: There is no script nothing.py: give")
    assert not runtime.exists()
