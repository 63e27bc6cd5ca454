"""Clusters come up, are found, and end without leaving anything, however they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_tools import (
    POLYPATH,
    Client,
    Remains,
    assert_no_files,
    polypath,
    refusal,
    shared_folder,
    start_detached,
    status_of,
    unique_name,
    wait_no_sessions,
)

# Becomes a command whose terminal is its stdin, so that Ctrl-C can be typed.
ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
CTRL_C = b"\x03"

SCRIPT = """
import os, signal, sys

def on_sigterm(number, frame):
    print("terminated", flush=True)
    sys.exit(7)

signal.signal(signal.SIGTERM, on_sigterm)
print(sys.argv[1:], os.environ["JAX_PLATFORMS"], sys.stdin.readline().strip(), flush=True)
signal.pause()
"""


@pytest.fixture
def name() -> Iterator[str]:
    """A cluster's name, under which nothing is left."""
    name = unique_name()
    yield name
    assert_no_files(name)


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return str(path)


def test_up_then_look_then_down(name: str) -> None:
    told = start_detached(name, "--hosts", "2", "--devices-per-host", "1")
    remains = Remains(name)
    assert told == {"name": name, "address": told["address"], "platform": "cpu", "devices": 2}

    exported = polypath("env", "--name", name).stdout.splitlines()
    variables = json.loads(polypath("env", "--json", "--name", name).stdout)
    assert exported == [f"export {key}={value}" for key, value in variables.items()]
    assert variables["JAX_BACKEND_TARGET"] == told["address"]

    hosts = status_of(name)["controller"]["hosts"]
    assert [(host["host"], host["island"], host["state"], host["devices"]) for host in hosts] == [
        (0, 0, "up", 1),
        (1, 0, "up", 1),
    ]
    assert {host["pid"] for host in hosts} <= {process.pid for process in remains.children}
    shown = polypath("status", "--name", name).stdout
    assert name in shown
    assert "2 cpu devices" in shown
    assert polypath("logs", "--name", name, "--host", "1").stderr == ""

    taken = refusal("up", "--name", name)
    assert taken.startswith(f"A cluster named {name!r} runs already: use it")

    assert polypath("down", "--name", name).stderr == f"Cluster {name!r} is down.\n"
    remains.check_nothing_left(timeout=0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_up_and_all_it_started(name: str, number: signal.Signals) -> None:
    with Client([*POLYPATH, "up", "--platform", "cpu", "--name", name], start_new_session=True) as up:
        assert up.hear("stderr").startswith(f"Cluster {name!r} is up with 1 cpu devices")
        remains = Remains(name)
        os.killpg(up.process.pid, number)
        status, out, _ = up.end()
    assert (status, out) == (128 + number, "")
    remains.check_nothing_left(timeout=0.1)


def test_ctrl_c_at_the_terminal_ends_run_and_its_cluster(name: str, script: str) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", ON_TERMINAL, *POLYPATH, "run", "--platform", "cpu", "--name", name, script]
    with Client(command, stdin=theirs, start_new_session=True, text=False) as run:
        os.close(theirs)
        os.write(ours, b"typed\n")
        assert run.process.stdout is not None
        assert run.process.stdout.readline() == b"[] proxy typed\n"
        remains = Remains(name)
        os.write(ours, CTRL_C)
        run.process.wait(timeout=30)
        out, err = run.process.communicate()
    os.close(ours)
    assert (run.process.returncode, out) == (128 + signal.SIGINT, b"")
    assert err.count(b"KeyboardInterrupt") == 1, "the script was interrupted once, not twice"
    remains.check_nothing_left(timeout=0.1)


def test_run_passes_everything_through(name: str, script: str) -> None:
    command = [*POLYPATH, "run", "--platform", "cpu", "--name", name, script, "--hosts", "a b"]
    with Client(command) as run:
        run.say("through stdin")
        assert run.hear() == "['--hosts', 'a b'] proxy through stdin"
        remains = Remains(name)
        run.signal(signal.SIGTERM)
        assert run.end() == (7, "terminated\n", "")
    remains.check_nothing_left(timeout=0.1)


def test_a_killed_head_takes_its_workers_along_and_its_name_is_free(name: str) -> None:
    start_detached(name, "--hosts", "2")
    remains = Remains(name)
    remains.kill_head()
    remains.wait_processes()
    assert f"Cluster {name!r} is stale: its head (pid {remains.head}) ended" in refusal("status", "--name", name)
    doctor = subprocess.run([*POLYPATH, "doctor"], capture_output=True, text=True, timeout=60, check=False)
    assert f"{name!r} is stale" in doctor.stdout

    start_detached(name)
    assert status_of(name)["pid"] != remains.head
    remains = Remains(name)
    polypath("down", "--name", name)
    remains.check_nothing_left(timeout=0.1)


def test_down_removes_what_a_killed_head_left(name: str) -> None:
    start_detached(name)
    remains = Remains(name)
    remains.kill_head()
    remains.wait_processes()
    assert "was dead already" in polypath("down", "--name", name).stderr


def test_a_killed_user_of_start_leaves_nothing(name: str) -> None:
    code = f"""
import polypath
cluster = polypath.start(hosts=2, platform="cpu", name={name!r})
import jax
print(jax.device_count(), flush=True)
input()
"""
    with Client.python(code) as user:
        assert user.hear() == "2"
        remains = Remains(name)
        user.signal(signal.SIGKILL)
        user.end()
    remains.check_nothing_left()


def test_a_client_killed_while_it_uploads_leaves_nothing(cluster: str, variables: dict[str, str]) -> None:
    code = """
import jax, numpy as np
big = np.ones((64 << 20,), np.uint8)
kept = [jax.device_put(big, device) for device in jax.devices()]
print("uploading", flush=True)
while True:
    jax.device_put(big, jax.devices()[3]).block_until_ready()
"""
    shared = shared_folder(cluster)
    with Client.python(code, variables) as client:
        assert client.hear() == "uploading"
        (session,) = status_of(cluster)["controller"]["sessions"]
        assert session["client"].startswith(f"pid {client.process.pid}")
        client.signal(signal.SIGKILL)
        client.end()
    assert wait_no_sessions(cluster)["controller"]["values"] == 0
    assert not list(shared.iterdir())


def test_nobody_there(name: str) -> None:
    for command in ("status", "env", "logs"):
        assert refusal(command, "--name", name) == f"No cluster named {name!r} runs here: start one with `polypath up`."
    assert refusal("down", "--name", name) == f"No cluster named {name!r} runs: see `polypath status`."


def test_a_platform_without_devices_is_told_in_one_sentence(name: str) -> None:
    sentence = refusal("up", "--platform", "tpu", "--name", name)
    assert f"Cluster {name} did not come up" in sentence
    assert "This host has no device of platform 'tpu'" in sentence
    assert "polypath doctor" in sentence
