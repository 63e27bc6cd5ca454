"""Runs files of JAX's tests on both sides, several at a time if wanted, each lane with a cluster of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

import msgspec

from polypath.conformance.cluster import GivenCluster, TestCluster
from polypath.conformance.environment import here_environment, plain_environment
from polypath.conformance.files import Suite
from polypath.conformance.process import FileRun, Limits, run_file
from polypath.conformance.report import FileReport, compare

_T = TypeVar("_T")


class Plan(msgspec.Struct, frozen=True):
    """What is to be run."""

    suite: Suite
    logs: Path
    hosts: int = 2
    devices_per_host: int = 4
    x64: bool = False
    limits: Limits = Limits()
    jobs: int = 1
    cluster: str | None = None
    """The name of one that runs; None: one is started for each job."""

    @property
    def plain(self) -> dict[str, str]:
        return plain_environment(self.hosts * self.devices_per_host, x64=self.x64)

    def log(self, file: str, side: str) -> Path:
        return self.logs / f"{file.replace('/', '.')}.{side}.log"


def collect(plan: Plan, files: Sequence[str], heard: Callable[[str, FileRun], None]) -> dict[str, list[str]]:
    """The tests of these files, by plain JAX; a file that it cannot import has none."""

    def work(file: str, stop: threading.Event) -> FileRun:
        return _run_side(plan, file, "list", plan.plain, [], stop)

    found: dict[str, list[str]] = {}

    def done(file: str, run: FileRun) -> None:
        heard(file, run)
        found[file] = run.found

    _in_lanes(plan.jobs, files, work, done)
    return {file: found[file] for file in files}


def run(plan: Plan, chosen: dict[str, list[str] | None], heard: Callable[[FileReport], None]) -> list[FileReport]:
    """Run files, or some tests of each, on both sides.

    Args:
        heard: is called with each file's report when it is there.

    Raises:
        ClusterError: a cluster did not come up.
    """
    clusters: queue.SimpleQueue[TestCluster | GivenCluster] = queue.SimpleQueue()
    every = [_cluster(plan) for _ in range(plan.jobs)]
    for cluster in every:
        clusters.put(cluster)

    def work(file: str, stop: threading.Event) -> FileReport:
        cluster = clusters.get()
        try:
            return _run_both(plan, file, chosen[file], cluster, stop)
        finally:
            clusters.put(cluster)

    reports: dict[str, FileReport] = {}

    def done(file: str, report: FileReport) -> None:
        reports[file] = report
        heard(report)

    try:
        _in_lanes(plan.jobs, list(chosen), work, done)
    finally:
        for cluster in every:
            cluster.close()
    return [reports[file] for file in chosen]


def _cluster(plan: Plan) -> TestCluster | GivenCluster:
    if plan.cluster is not None:
        return GivenCluster(plan.cluster)
    return TestCluster(plan.hosts, plan.devices_per_host, plan.logs)


def _run_both(
    plan: Plan, file: str, tests: list[str] | None, cluster: TestCluster | GivenCluster, stop: threading.Event
) -> FileReport:
    plain = _run_side(plan, file, "plain", plan.plain, tests, stop)
    environment = here_environment(cluster.environment(), x64=plan.x64)
    here = _run_side(plan, file, "here", environment, tests, stop)
    trouble = cluster.check(clean=not here.died)
    return compare(file, plain, here, [trouble] if trouble else [])


def _run_side(
    plan: Plan, file: str, side: str, environment: dict[str, str], tests: list[str] | None, stop: threading.Event
) -> FileRun:
    path, log = plan.suite.path(file), plan.log(file, side)
    return run_file(path, tests, environment, plan.limits, log, checkout=plan.suite.checkout, stop=stop)


def _in_lanes(
    jobs: int, files: Sequence[str], work: Callable[[str, threading.Event], _T], done: Callable[[str, _T], None]
) -> None:
    """Do the work for each file, `jobs` at a time; what one raises ends all."""
    stop = threading.Event()
    with ThreadPoolExecutor(jobs, "conformance") as lanes:
        waiting = {lanes.submit(work, file, stop): file for file in files}
        try:
            while waiting:
                ready, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    done(waiting.pop(future), future.result())
        except BaseException:
            stop.set()
            lanes.shutdown(wait=False, cancel_futures=True)
            raise
