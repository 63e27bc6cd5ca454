"""Stock JAX, in a process of its own, on the frontend with a scripted controller behind it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import frontend_fakes as fakes
import pytest

from polypath.controller import events
from polypath.frontend import ClusterView, Frontend, host_buffers
from polypath.types import Code, Failure, Platform

SCRIPT = Path(__file__).with_name("jax_client.py")


@contextlib.asynccontextmanager
async def serving(
    folder: Path, controller: fakes.FakeController, view: ClusterView | None = None
) -> AsyncIterator[tuple[Frontend, str]]:
    seen = view or fakes.view()
    frontend = Frontend(controller.submit, lambda: seen)
    controller.deliver = frontend.deliver
    address = f"unix:{folder}/stock.sock"
    await frontend.serve(address)
    try:
        yield frontend, address
    finally:
        await frontend.stop()


async def run_jax(address: str, *args: str, **env: str) -> tuple[int | None, str, str]:
    target = f"grpc://{address}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        target,
        *args,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "IFRT_PROXY_USE_INSECURE_GRPC_CREDENTIALS": "true",
            "JAX_PLATFORMS": "proxy",
            "JAX_BACKEND_TARGET": target,
            **env,
        },
    )
    try:
        async with asyncio.timeout(120):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode(), errors.decode()


def jax_on(
    folder: Path,
    controller: fakes.FakeController,
    *args: str,
    view: ClusterView | None = None,
    **env: str,
) -> str:
    async def main() -> tuple[int | None, str, str]:
        async with serving(folder, controller, view) as (_, address):
            return await run_jax(address, *args, **env)

    status, output, logged = asyncio.run(main())
    assert status == 0, logged
    assert len(controller.of(events.Open)) == len(controller.of(events.Close)) == 1
    assert not list(folder.iterdir())
    return output


def test_devices(folder: Path) -> None:
    lines = jax_on(folder, fakes.FakeController(), "devices").splitlines()
    assert lines == [
        "CpuDevice(id=0) cpu:0 0 cpu cpu 0 ['device', 'pinned_host', 'unpinned_host']",
        "device 0 [1, 2] True 1.5",
        "CpuDevice(id=1) cpu:1 1 cpu cpu 0 ['device', 'pinned_host', 'unpinned_host']",
        "device 0 [1, 2] True 1.5",
        "proxy/polypath cpu cpu 2",
    ]


def test_arrays_of_every_type_go_and_come_back(folder: Path) -> None:
    assert "{CpuDevice(id=1)} [1.0, 1.0, 1.0, 1.0]\ndone True" in jax_on(folder, fakes.FakeController(), "arrays")


def test_files_of_arrays_are_refused_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    output = jax_on(
        folder,
        fakes.FakeController(),
        "refused",
        IFRT_PROXY_GRPC_LARGE_TRANSFER_OPTIMIZATION_DIRECTORY=str(tmp_path),
        IFRT_PROXY_GRPC_LARGE_TRANSFER_OPTIMIZATION_THRESHOLD_BYTES="1000000",
    )
    assert "unset IFRT_PROXY_GRPC_LARGE_TRANSFER_OPTIMIZATION_DIRECTORY" in output


def test_an_array_that_is_too_large_is_refused_in_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_buffers, "MOST_INLINE", 1 << 20)
    output = jax_on(folder, fakes.FakeController(), "refused")
    assert "A host buffer of 12000000 bytes is too large for a cluster" in output


def test_a_program_runs(folder: Path) -> None:
    controller = fakes.FakeController()
    output = jax_on(folder, controller, "run")
    assert output.splitlines()[0] == "[1.0, 2.0, 3.0, 4.0]"
    assert "{'flops': 4.0} HloModule jit_add" in output
    runs = controller.of(events.Execute)
    assert [bool(run.results) for run in runs] == [False] + [True] * 99
    assert controller.of(events.Compile)[0].devices == (0,)


def test_errors_reach_the_user_with_their_text(folder: Path) -> None:
    controller = fakes.FakeController()
    controller.answers = {
        events.Compile: Failure(Code.INTERNAL, "the compiler fell over on host 1"),
        events.Fetch: Failure(Code.DATA_LOSS, "host 1 was lost"),
    }
    assert jax_on(folder, controller, "errors").splitlines() == [
        "compile: INTERNAL: the compiler fell over on host 1",
        "value: DATA_LOSS: host 1 was lost",
        "float32",
    ]


def test_a_cluster_without_devices_refuses(folder: Path) -> None:
    async def main() -> tuple[int | None, str, str]:
        empty = ClusterView("test", Platform("cpu", "", "", {}), ())
        async with serving(folder, fakes.FakeController(), empty) as (_, address):
            return await run_jax(address, "devices", CONNECT_SECONDS="1")

    status, _, logged = asyncio.run(main())
    assert status
    assert "Cluster test has no devices yet" in logged


def test_a_killed_client_is_closed_once(folder: Path) -> None:
    controller = fakes.FakeController()
    closed = asyncio.Event()

    async def main() -> None:
        async with serving(folder, controller) as (frontend, address):
            submit = controller.submit

            def watch(event: object) -> None:
                submit(event)
                if isinstance(event, events.Close):
                    closed.set()

            frontend._submit = watch
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(SCRIPT),
                f"grpc://{address}",
                "wait",
                stdout=asyncio.subprocess.PIPE,
                env={
                    **os.environ,
                    "IFRT_PROXY_USE_INSECURE_GRPC_CREDENTIALS": "true",
                    "JAX_PLATFORMS": "proxy",
                },
            )
            assert process.stdout is not None
            async with asyncio.timeout(60):
                assert await process.stdout.readline() == b"connected\n"
                process.kill()
                await process.wait()
                await closed.wait()
            assert frontend.statistics().sessions == 0

    asyncio.run(main())
    assert len(controller.of(events.Close)) == 1
