"""Run as a process: which PJRT client a worker makes, and why it makes none.

On its path are a plugin whose CUDA is broken, and the place of Mosaic's library.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import jax
from jax._src import xla_bridge
from jaxlib import xla_client

from polypath.worker.config import WorkerConfig
from polypath.worker.jaxlib import clients, programs

logged: list[str] = []


class Log(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logged.append(record.getMessage())


def make(platform: str, devices: int = 0) -> Any:
    """The client that a worker makes which has just begun: JAX registers plugins once."""
    xla_bridge._plugins_registered = False
    config = WorkerConfig(host=0, island=0, node=0, nodes=1, first_device=0, platform=platform, devices=devices)
    return clients.make_client(config, None)


def refused(platform: str, devices: int = 0) -> str:
    try:
        make(platform, devices)
    except RuntimeError as error:
        return str(error)
    raise AssertionError(f"{platform} was not refused")


def present(**machine: bool) -> None:
    """What accelerators the machine has."""
    for name, (what, _) in clients._PRESENT.items():
        clients._PRESENT[name] = (what, lambda name=name: machine.get(name, False))


def check_names() -> None:
    told = refused("nothing")
    assert "no device of platform 'nothing'" in told, told
    assert "no plugin of that name; it has cpu, " in told, told
    assert "toy" in told, told
    # What JAX only logs is told where somebody asked for just that.
    assert "Unable to load cuDNN. Is it installed?" in refused("cuda")


def check_best() -> None:
    """Nobody asked for a platform: the CPU is it, unless there is something better that does not work."""
    present()
    assert make("").platform == "cpu"
    assert any("Unable to load cuDNN" in each for each in logged), logged
    present(cuda=True)
    told = refused("")
    assert told.startswith("This machine has an NVIDIA GPU, and jaxlib cannot use it ("), told
    assert "Unable to load cuDNN. Is it installed?" in told, told
    assert "--platform cpu" in told, told
    assert make("cpu").platform == "cpu"
    present(rocm=True)  # Not broken: nobody installed what it needs.
    logged.clear()
    assert make("").platform == "cpu"
    assert any("has an AMD GPU, and jaxlib has no plugin for it" in each for each in logged), logged
    present(tpu=True)
    assert "This machine has a TPU" in refused("")
    present()


def check_counts() -> None:
    """Devices of a plugin are as many as they are."""
    jax.config.update("jax_num_cpu_devices", 3)
    assert len(make("toy").local_devices()) == 3
    assert len(make("toy", 3).local_devices()) == 3
    told = refused("toy", 2)
    assert told == (
        "This host was asked for 2 devices, and has 3 of toy: say `--devices-per-host 3`, or leave it out."
    ), told


def check_plugins_by_path() -> None:
    os.environ["PJRT_NAMES_AND_LIBRARY_PATHS"] = "mine:/nowhere/libmine.so"
    told = refused("mine")
    assert "/nowhere/libmine.so" in told, told
    del os.environ["PJRT_NAMES_AND_LIBRARY_PATHS"]


def check_partitioners() -> None:
    """Plugins hear of the functions that XLA asks while it partitions, whichever is first."""
    told: list[object] = []

    def hear(c_api: object) -> None:
        told.append(c_api)

    before, xla_bridge._plugin_callbacks[:] = list(xla_bridge._plugin_callbacks), []
    toy = xla_bridge._backend_factories["toy"]
    toy.c_api = "a plugin's functions"
    xla_bridge._plugins_registered = False
    xla_bridge.register_plugin_callbacks(hear)
    make("cpu")
    assert not told
    make("toy")
    assert told == [toy.c_api]
    xla_bridge.register_plugin_callbacks(hear)
    assert told == [toy.c_api] * 2
    toy.c_api, xla_bridge._plugin_callbacks[:] = None, before


def check_places() -> None:
    """What a client says of its own machine is replaced."""
    sent = xla_client.CompileOptions()
    sent.executable_build_options.debug_options.xla_gpu_cuda_data_dir = "/of/the/client"
    options = programs.options_for(sent.SerializeAsString(), [0])
    assert options.executable_build_options.debug_options.xla_gpu_cuda_data_dir == "/here"
    os.environ["MOSAIC_GPU_RUNTIME_LIB_PATH"] = "/of/the/client"
    programs.prepare(b"... mosaic_gpu_v2 ...")
    assert os.environ["MOSAIC_GPU_RUNTIME_LIB_PATH"].endswith("jax_cuda13_plugin/libmosaic_gpu_runtime.so")


CHECKS: tuple[Callable[[], None], ...] = (
    check_names,
    check_best,
    check_counts,
    check_plugins_by_path,
    check_partitioners,
    check_places,
)

if __name__ == "__main__":
    logging.getLogger("polypath").addHandler(Log())
    logging.getLogger("polypath").setLevel(logging.INFO)
    for check in CHECKS:
        check()
        print(check.__name__)
