"""Runs all operators in processes, and goes on behind those that crash or hang. Imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from polypath.conformance.cluster import GivenCluster, TestCluster
from polypath.conformance.environment import here_environment, plain_environment
from polypath.conformance.process import FileRun, Limits, TestRun, run_file
from polypath.errors import ClusterError
from polypath.torch.conformance.verdicts import Found, Variant, heard, of_test

_CHILD: Final = "polypath.torch.conformance.child"
_AT_ONCE: Final = 160
"""Tests of one process: the memory of what it compiled goes with it."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be run."""

    logs: Path
    samples: int
    hosts: int = 1
    devices_per_host: int = 1
    plain: bool = False
    """On plain JAX on this machine, without a cluster."""
    jobs: int = 1
    """Processes at a time, each with a cluster of its own."""
    cluster: str | None = None
    """The name of one that runs; None: one is started."""
    limits: Limits = Limits(test=60.0)


Told = Callable[[str, Variant, Found], None]
Results = dict[str, dict[Variant, Found]]


def run(plan: Plan, names: Sequence[str] | None, told: Told) -> Results:
    """Use these operators, or all.

    Args:
        told: is called with each result when it is there.

    Raises:
        ClusterError: the processes could not even begin, or a name is none of an operator.
    """
    tests = _tests(plan, names)
    every = list(dict.fromkeys(of_test(test)[0] for test in tests))
    results: Results = {name: {} for name in every}
    stop = threading.Event()
    with ThreadPoolExecutor(plan.jobs, "torch-conformance") as lanes:
        try:
            for lane in [
                lanes.submit(_run_lane, plan, [test for test in tests if of_test(test)[0] in mine], told, results, stop)
                for mine in (frozenset(every[at :: plan.jobs]) for at in range(plan.jobs))
            ]:
                lane.result()
        except BaseException:
            stop.set()
            raise
    return results


def _run_lane(plan: Plan, tests: list[str], told: Told, results: Results, stop: threading.Event) -> None:
    """Use some of the operators, on a cluster of the lane's own."""
    cluster = None if plan.plain else _cluster(plan)
    try:
        while tests:
            chunk = tests[:_AT_ONCE]
            ran = _process(plan, chunk, cluster, f"from-{tests[0].replace('/', '.')}", stop)
            done = _finished(ran)
            if not done:
                raise ClusterError(f"The operators could not be run: {ran.note or 'no result'}; see {plan.logs}.")
            for test, one in done.items():
                name, variant = of_test(test)
                found = heard(one)
                results[name][variant] = found
                told(name, variant, found)
            tests = [test for test in tests if test not in done]
    finally:
        if cluster is not None:
            cluster.close()


def _tests(plan: Plan, names: Sequence[str] | None) -> list[str]:
    listed = _process(plan, [], None, "list", None)
    if not listed.found:
        raise ClusterError(
            f"torch's operator tests cannot be imported: {listed.note}; pip install polypath[torch-tests]."
        )
    known = dict.fromkeys(of_test(test)[0] for test in listed.found)
    wanted = known if names is None else dict.fromkeys(names)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ClusterError(f"torch's operator tests have no {', '.join(unknown)}: give names as the table has them.")
    return [test for test in listed.found if of_test(test)[0] in wanted]


def _finished(ran: FileRun) -> dict[str, TestRun]:
    """All but those that were still to come when the process ended."""
    return {test: one for test, one in ran.tests.items() if not one.reason.startswith("not run:")}


def _cluster(plan: Plan) -> TestCluster | GivenCluster:
    if plan.cluster is not None:
        return GivenCluster(plan.cluster)
    return TestCluster(plan.hosts, plan.devices_per_host, plan.logs)


def _process(
    plan: Plan, tests: list[str], cluster: TestCluster | GivenCluster | None, log: str, stop: threading.Event | None
) -> FileRun:
    if cluster is None:
        environment = plain_environment(plan.hosts * plan.devices_per_host, x64=False)
    else:
        environment = here_environment(cluster.environment(), x64=False)
    environment["POLYPATH_TORCH_CONFORMANCE_SAMPLES"] = str(plan.samples)
    ran = run_file(Path(), tests, environment, plan.limits, plan.logs / f"{log}.log", module=_CHILD, stop=stop)
    if cluster is not None:
        cluster.check(clean=not ran.died)
    return ran
