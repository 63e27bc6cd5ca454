"""`polypath torch-conformance`: PyTorch's own operator tests, on the device and on torch's CPU."""

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
    operators: Annotated[
        list[str] | None, typer.Option(help="Names as the table has them, separated by commas; may be repeated.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="At most so many of each operator.")] = 4,
    hosts: Annotated[int, typer.Option(help="Of the cluster.")] = 1,
    devices_per_host: Annotated[int, typer.Option(help="Of the cluster.")] = 1,
    plain: Annotated[bool, typer.Option("--plain", help="On plain JAX on this machine, without a cluster.")] = False,
    name: Annotated[str | None, typer.Option(help="Use this cluster, which runs, instead of starting one.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time, each with a cluster of its own.")] = 1,
    test_timeout: Annotated[float, typer.Option(help="Seconds for each operator in each variant.")] = 60.0,
    json: Annotated[Path | None, typer.Option(help="Write everything here.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table here.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Keep what the tests and the workers wrote here.")] = None,
) -> None:
    """Run PyTorch's own operator tests on the device, and show what differs from torch's CPU."""
    missing = [one for one in ("torch", "expecttest", "torchax") if importlib.util.find_spec(one) is None]
    if missing:
        raise ClusterError(f"PyTorch's operator tests need {', '.join(missing)}: pip install {' '.join(missing)}.")
    from polypath.conformance.process import Limits
    from polypath.torch.conformance import compare, report, runner
    from polypath.torch.conformance.verdicts import Found, Variant, Verdict

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
    wanted = [one for given in operators or () for one in given.split(",") if one] or None

    def told(operator: str, variant: Variant, found: Found) -> None:
        if found.verdict not in (Verdict.ABSENT, Verdict.AGREE, Verdict.HOST):
            typer.echo(report.progress_line(operator, variant, found), err=True)

    with interruptible():
        typer.echo(f"The logs go to {plan.logs}", err=True)
        results = runner.run(plan, wanted, told)
    where = "plain JAX on CPU" if plain else f"a cluster of {hosts} × {devices_per_host} CPU devices"
    made = report.Report(
        report.Setting(
            command=_command(operators or [], samples, plain, hosts, devices_per_host),
            versions={package: version(package) for package in ("polypath", "torch", "jax", "torchax")},
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


def _command(operators: list[str], samples: int, plain: bool, hosts: int, devices_per_host: int) -> str:
    """The command for others to repeat."""
    words = ["polypath", "torch-conformance", "--samples", str(samples)]
    for one in operators:
        words += ["--operators", one]
    if plain:
        words.append("--plain")
    if (hosts, devices_per_host) != (1, 1):
        words += ["--hosts", str(hosts), "--devices-per-host", str(devices_per_host)]
    return shlex.join(words)
