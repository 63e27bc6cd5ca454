"""Runs the entries of torch's databases in processes, and goes on behind those that crash or hang. Imports no torch."""

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
from polypath.torch.conformance.verdicts import Found, Kind, Test, Variant, heard

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


Told = Callable[[Test, Found], None]
Results = dict[Kind, dict[str, dict[Variant, Found]]]


def run(plan: Plan, kinds: Sequence[Kind], names: Sequence[str] | None, told: Told) -> Results:
    """Use the entries of these names, or all, of these databases.

    Args:
        told: is called with each result when it is there.

    Raises:
        ClusterError: the processes could not even begin, or a name is none of an entry.
    """
    tests = _tests(plan, kinds, names)
    every = list(dict.fromkeys((test.kind, test.name) for test in tests))
    results: Results = {}
    for kind, name in every:
        results.setdefault(kind, {})[name] = {}
    stop = threading.Event()
    with ThreadPoolExecutor(plan.jobs, "torch-conformance") as lanes:
        try:
            for lane in [
                lanes.submit(_run_lane, plan, [one for one in tests if one[:2] in mine], told, results, stop)
                for mine in (frozenset(every[at :: plan.jobs]) for at in range(plan.jobs))
            ]:
                lane.result()
        except BaseException:
            stop.set()
            raise
    return results


def _run_lane(plan: Plan, tests: list[Test], told: Told, results: Results, stop: threading.Event) -> None:
    """Use some of the entries, on a cluster of the lane's own."""
    cluster = None if plan.plain else _cluster(plan)
    try:
        while tests:
            chunk = tests[:_AT_ONCE]
            log = f"from-{chunk[0]}".replace("/", ".").replace(" ", "-")
            ran = _process(plan, chunk, cluster, log, stop)
            done = _finished(ran)
            if not done:
                raise ClusterError(f"The tests could not be run: {ran.note or 'no result'}; see {plan.logs}.")
            for text, one in done.items():
                test, found = Test.of(text), heard(one)
                results[test.kind][test.name][test.variant] = found
                told(test, found)
            tests = [test for test in tests if str(test) not in done]
    finally:
        if cluster is not None:
            cluster.close()


def _tests(plan: Plan, kinds: Sequence[Kind], names: Sequence[str] | None) -> list[Test]:
    listed = _process(plan, [], None, "list", None)
    if not listed.found:
        raise ClusterError(f"torch's own tests cannot be imported: {listed.note}; pip install torch expecttest.")
    every = [test for test in map(Test.of, listed.found) if test.kind in kinds]
    unknown = set(names or ()) - {test.name for test in every}
    if unknown:
        raise ClusterError(
            f"torch's own tests of {', '.join(kinds)} have no {', '.join(sorted(unknown))}: give names as the tables "
            "have them."
        )
    return [test for test in every if names is None or test.name in names]


def _finished(ran: FileRun) -> dict[str, TestRun]:
    """All but those that were still to come when the process ended."""
    return {test: one for test, one in ran.tests.items() if not one.reason.startswith("not run:")}


def _cluster(plan: Plan) -> TestCluster | GivenCluster:
    if plan.cluster is not None:
        return GivenCluster(plan.cluster)
    return TestCluster(plan.hosts, plan.devices_per_host, plan.logs)


def _process(
    plan: Plan,
    tests: Sequence[Test],
    cluster: TestCluster | GivenCluster | None,
    log: str,
    stop: threading.Event | None,
) -> FileRun:
    if cluster is None:
        environment = plain_environment(plan.hosts * plan.devices_per_host, x64=False)
    else:
        environment = here_environment(cluster.environment(), x64=False)
    environment["POLYPATH_TORCH_CONFORMANCE_SAMPLES"] = str(plan.samples)
    named = [str(test) for test in tests]
    ran = run_file(Path(), named, environment, plan.limits, plan.logs / f"{log}.log", module=_CHILD, stop=stop)
    if cluster is not None:
        cluster.check(clean=not ran.died)
    return ran
