"""`polypath torch-conformance`: PyTorch's own tests of operators, modules and optimizers, here and on torch's CPU."""

from __future__ import annotations

import importlib.util
import shlex
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from polypath.cli.up import interruptible
from polypath.errors import ClusterError


def torch_conformance(
    *,
    of: Annotated[
        list[str] | None, typer.Option(help="operators, modules or optimizers, separated by commas; all by default.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Names as the tables have them, separated by commas; may be repeated.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="At most so many of each in each variant.")] = 4,
    hosts: Annotated[int, typer.Option(help="Of the cluster.")] = 1,
    devices_per_host: Annotated[int, typer.Option(help="Of the cluster.")] = 1,
    plain: Annotated[bool, typer.Option("--plain", help="On plain JAX on this machine, without a cluster.")] = False,
    name: Annotated[str | None, typer.Option(help="Use this cluster, which runs, instead of starting one.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time, each with a cluster of its own.")] = 1,
    test_timeout: Annotated[float, typer.Option(help="Seconds for each in each variant.")] = 120.0,
    json: Annotated[Path | None, typer.Option(help="Write everything here.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table here.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Keep what the tests and the workers wrote here.")] = None,
) -> None:
    """Run PyTorch's own tests of operators, modules and optimizers, and show what differs from torch's CPU."""
    missing = [one for one in ("torch", "expecttest") if importlib.util.find_spec(one) is None]
    if missing:
        raise ClusterError(f"PyTorch's own tests need {', '.join(missing)}: pip install {' '.join(missing)}.")
    from polypath.conformance.process import Limits
    from polypath.torch.conformance import compare, report, runner
    from polypath.torch.conformance.verdicts import Found, Kind, Test, Verdict

    plan = runner.Plan(
        logs=(logs or Path("conformance-logs") / time.strftime("torch-%Y%m%d-%H%M%S")).resolve(),
        samples=samples,
        hosts=hosts,
        devices_per_host=devices_per_host,
        plain=plain,
        jobs=jobs,
        cluster=name,
        limits=Limits(test=test_timeout),
    )
    unknown = [one for one in _names(of) if one not in list(Kind)]
    if unknown:
        raise ClusterError(f"There are no tests of {', '.join(unknown)}: --of takes {', '.join(Kind)}.")
    kinds = [kind for kind in Kind if kind in _names(of)] or list(Kind)

    def told(test: Test, found: Found) -> None:
        if found.verdict not in (Verdict.ABSENT, Verdict.AGREE, Verdict.HOST):
            typer.echo(report.progress_line(test, found), err=True)

    with interruptible():
        typer.echo(f"The logs go to {plan.logs}", err=True)
        results = runner.run(plan, kinds, _names(only) or None, told)
    where = "plain JAX on CPU" if plain else f"a cluster of {hosts} × {devices_per_host} CPU devices"
    made = report.Report(
        report.Setting(
            command=_command(_names(of), _names(only), samples, plain, hosts, devices_per_host),
            versions={package: version(package) for package in ("polypath", "torch", "jax")},
            where=where if name is None else f"the cluster {name}",
            samples=samples,
        ),
        results,
    )
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1))
    if markdown is not None:
        markdown.write_text(report.markdown(made, (compare.RTOL, compare.ATOL)))
    typer.echo(report.summary(made))


def _names(given: list[str] | None) -> list[str]:
    return [one for text in given or () for one in text.split(",") if one]


def _command(of: list[str], only: list[str], samples: int, plain: bool, hosts: int, devices_per_host: int) -> str:
    """The command for others to repeat."""
    words = ["polypath", "torch-conformance", "--samples", str(samples)]
    if of:
        words += ["--of", ",".join(of)]
    if only:
        words += ["--only", ",".join(only)]
    if plain:
        words.append("--plain")
    if (hosts, devices_per_host) != (1, 1):
        words += ["--hosts", str(hosts), "--devices-per-host", str(devices_per_host)]
    return shlex.join(words)
