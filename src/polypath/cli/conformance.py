"""`polypath conformance`: JAX's own tests, on a cluster and on plain JAX."""

from __future__ import annotations

import shlex
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from polypath.cli.up import interruptible
from polypath.conformance.files import check_dependencies, find_suite, misfit, select
from polypath.conformance.process import FileRun, Limits
from polypath.conformance.report import FileReport, Report, Setting
from polypath.errors import ClusterError

_FOLDER_IN_COMMAND: Final = "jax/tests"


def conformance(
    *,
    jax_tests: Annotated[Path, typer.Option(help="A checkout of JAX at the installed version, or its `tests`.")],
    files: Annotated[
        list[str] | None, typer.Option(help="Test files or patterns, separated by commas; may be repeated.")
    ] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Run so many tests, drawn from all files.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    x64: Annotated[bool, typer.Option("--x64", help="With JAX_ENABLE_X64=1 on both sides.")] = False,
    hosts: Annotated[int, typer.Option(help="Of the cluster.")] = 2,
    devices_per_host: Annotated[int, typer.Option(help="Of the cluster; plain JAX gets as many in all.")] = 4,
    name: Annotated[str | None, typer.Option(help="Use this cluster, which runs, instead of starting one.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Files at a time, each with a cluster of its own.")] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds for each file on each side.")] = Limits().file,
    test_timeout: Annotated[float, typer.Option(help="Seconds for each test.")] = Limits().test,
    json: Annotated[Path | None, typer.Option(help="Write everything here, file by file as it goes.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table and the differences here.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Keep what the tests and the workers wrote here.")] = None,
) -> None:
    """Run JAX's own tests on a cluster and on plain JAX, and show where they differ."""
    from rich.console import Console

    from polypath.conformance import runner
    from polypath.conformance.explained import read_explanations
    from polypath.conformance.sampling import draw
    from polypath.conformance.view import progress_line, report_view

    suite = find_suite(jax_tests)
    check_dependencies()
    warning = misfit(suite, version("jax"))
    if warning:
        typer.echo(warning, err=True)
    chosen = select(suite, [one for given in files or () for one in given.split(",") if one])
    plan = runner.Plan(
        suite=suite,
        logs=(logs or Path("conformance-logs") / time.strftime("%Y%m%d-%H%M%S")).resolve(),
        hosts=hosts,
        devices_per_host=devices_per_host,
        x64=x64,
        limits=Limits(timeout, test_timeout),
        jobs=jobs,
        cluster=name,
    )
    setting = Setting(
        command=_command(files or [], sample, seed, x64, hosts, devices_per_host),
        versions={package: version(package) for package in ("polypath", "jax", "jaxlib")} | {"python": _python()},
        hosts=hosts,
        devices_per_host=devices_per_host,
        x64=x64,
        sample=sample,
        seed=seed,
    )
    explanations = read_explanations()
    finished: list[FileReport] = []

    def found(file: str, run: FileRun) -> None:
        if run.note:
            typer.echo(f"{file}: {run.note}, so no test of it is drawn", err=True)

    def heard(report: FileReport) -> None:
        finished.append(report)
        typer.echo(f"[{len(finished)}/{len(wanted)}] {progress_line(report)}", err=True)
        if json is not None:
            _write(json, msgspec.json.format(msgspec.json.encode(Report(setting, finished)), indent=1))

    with interruptible():
        typer.echo(f"The logs go to {plan.logs}", err=True)
        wanted: dict[str, list[str] | None] = dict.fromkeys(chosen)
        if sample is not None:
            wanted.update(draw(runner.collect(plan, chosen, found), sample, seed))
            wanted = {file: tests for file, tests in wanted.items() if tests}
        report = Report(setting, runner.run(plan, wanted, heard))
    if json is not None:
        _write(json, msgspec.json.format(msgspec.json.encode(report), indent=1))
    if markdown is not None:
        from polypath.conformance.markdown import markdown as page

        _write(markdown, page(report, explanations).encode())
    Console().print(report_view(report, explanations))
    if not report.counted:
        raise ClusterError(f"No test passed on plain JAX, so there is nothing to compare: see {plan.logs}.")


def _command(files: list[str], sample: int | None, seed: int, x64: bool, hosts: int, devices_per_host: int) -> str:
    """The command for others to repeat: without this machine's paths."""
    words = ["polypath", "conformance", "--jax-tests", _FOLDER_IN_COMMAND]
    for file in files:
        words += ["--files", file]
    if sample is not None:
        words += ["--sample", str(sample), "--seed", str(seed)]
    if x64:
        words.append("--x64")
    if (hosts, devices_per_host) != (2, 4):
        words += ["--hosts", str(hosts), "--devices-per-host", str(devices_per_host)]
    return shlex.join(words)


def _python() -> str:
    import platform

    return platform.python_version()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
