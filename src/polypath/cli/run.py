"""`polypath run`: a script on a cluster of its own, which lives as long as the script."""

from __future__ import annotations

import functools
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from polypath.cli.context import DevicesPerHost, Fanout, Hosts, Islands, Platform
from polypath.cli.up import STOP_SIGNALS, interruptible, starting
from polypath.client.environment import client_environment
from polypath.errors import ClusterError


class Command(TyperCommand):
    """Refuses an option that it does not know, rather than take it for the script."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        rest = super().parse_args(ctx, args)
        command: Sequence[str] = ctx.params.get("command") or ()
        before = given[: len(given) - len(command)]
        if command and command[0].startswith("-") and before[-1:] != ["--"]:
            raise typer.BadParameter(
                f"there is no option {command[0]}. Options of the script come after it, and a script of that name "
                "comes after `--`.",
                ctx,
                param_hint="SCRIPT",
            )
        return rest


def run(
    command: Annotated[list[str], typer.Argument(metavar="SCRIPT [ARGS]...", help="The script and its arguments.")],
    *,
    hosts: Hosts = 1,
    devices_per_host: DevicesPerHost = None,
    platform: Platform = None,
    islands: Islands = 1,
    fanout: Fanout = None,
    name: Annotated[str | None, typer.Option(help="The cluster's name; made up if not given.")] = None,
    module: Annotated[bool, typer.Option("-m", help="SCRIPT is a module's name, as in python -m.")] = False,
) -> None:
    """Run a JAX script on a cluster that is started for it and ends with it."""
    script, *arguments = command
    if not module and not Path(script).is_file():
        raise ClusterError(f"There is no script {script}: give the path of one, or a module's name after -m.")
    if script.startswith("-"):
        script = f"./{script}"  # Python would take it for an option of its own.
    python = [sys.executable, *(["-m"] if module else []), script, *arguments]
    name = name or f"run-{os.getpid()}-{secrets.token_hex(2)}"
    with interruptible(), starting(hosts, devices_per_host, platform, islands, name, fanout=fanout, tied=True) as head:
        environment = os.environ | client_environment(head.reply.address or head.config.address)
        status = _run(python, environment)
    raise typer.Exit(128 - status if status < 0 else status)


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run a command to its end, passing on the signals that we get. Its `returncode`."""
    from polypath.launch.child import die_with_parent

    process = subprocess.Popen(
        command,
        env=environment,
        # Safe here: this process has no other threads.
        preexec_fn=functools.partial(die_with_parent, os.getpid(), signal.SIGTERM),  # noqa: PLW1509
    )

    def pass_on(number: int, _: Any) -> None:
        # A Ctrl-C at the terminal went to the script as well.
        if number != signal.SIGINT or not _in_foreground():
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in STOP_SIGNALS}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    """Whether the terminal's keys go to our process group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
