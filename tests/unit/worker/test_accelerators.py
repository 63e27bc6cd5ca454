"""What a worker does about accelerators. None is here: what jaxlib says of them is pretended."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import pytest
from cluster_tools import environment

from polypath.messages import Elements
from polypath.worker import callbacks as callbacks_module
from polypath.worker import jaxlib
from polypath.worker.config import WorkerConfig
from polypath.worker.jaxlib import LentBuffer, buffers, share

HERE = Path(__file__).parent


def run(script: str, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_executor_of_an_accelerator(tmp_path: Path) -> None:
    run("accelerator.py", str(tmp_path))


def test_which_client_a_worker_makes() -> None:
    # CUDA_ROOT is where JAX looks for CUDA first.
    told = run("platforms.py", PYTHONPATH=str(HERE / "plugins"), CUDA_ROOT="/here")
    assert told.split() == [
        "check_names", "check_best", "check_counts", "check_plugins_by_path", "check_partitioners", "check_places",
    ]  # fmt: skip


GPUS = [
    # GPUs here, islands, hosts of each, asked of each host -> what each host takes, island after island
    (8, 1, 2, 4, ["0123", "4567"]),
    (8, 1, 2, 0, ["0123", "4567"]),
    (8, 2, 2, 2, ["01", "23", "45", "67"]),
    (8, 2, 2, 1, ["0", "1", "2", "3"]),
    (8, 1, 3, 0, ["01", "23", "45"]),
    (8, 1, 1, 2, ["01"]),
    # Islands share, hosts of one do not.
    (1, 2, 1, 1, ["0", "0"]),
    (2, 2, 2, 0, ["0", "1", "0", "1"]),
    (4, 3, 2, 1, ["0", "1", "2", "3", "0", "1"]),
]


def configs(islands: int, nodes: int, devices: int) -> list[WorkerConfig]:
    return [
        WorkerConfig(host=host, island=host // nodes, node=host % nodes, nodes=nodes, islands=islands,
                     first_device=0, devices=devices)
        for host in range(islands * nodes)
    ]  # fmt: skip


@pytest.mark.parametrize(("here", "islands", "nodes", "devices", "taken"), GPUS)
def test_each_host_takes_its_share(here: int, islands: int, nodes: int, devices: int, taken: list[str]) -> None:
    shares = [share.share_of(config, here) for config in configs(islands, nodes, devices)]
    assert ["".join(map(str, each.devices)) for each in shares] == taken
    for each in shares:
        assert each.islands == sum(set(each.devices) <= set(other.devices) for other in shares)


@pytest.mark.parametrize(("here", "nodes", "devices"), [(1, 2, 1), (1, 2, 0), (7, 2, 4), (0, 1, 0), (0, 1, 1)])
def test_too_few_devices_are_refused(here: int, nodes: int, devices: int) -> None:
    with pytest.raises(RuntimeError, match=rf"An island of {nodes} hosts .* this machine has {here}: start fewer"):
        share.share_of(configs(1, nodes, devices)[0], here)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is set of JAX's options, and on a machine with 2 GPUs of each kind and 4 TPU chips."""
    found: dict[str, Any] = {}
    config = SimpleNamespace(update=found.__setitem__, jax_pjrt_client_create_options=None)
    monkeypatch.setattr(share, "jax", SimpleNamespace(config=config))
    monkeypatch.setattr(share, "_GPUS", {"cuda": lambda: 2, "rocm": lambda: 2})
    monkeypatch.setattr(share._hardware, "num_available_tpu_chips_and_device_id", lambda: (4, None))
    for name in [name for name in os.environ if name.startswith(("TPU_", "CLOUD_TPU", "XLA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", {**os.environ})
    return found


def test_gpus_of_hosts_of_one_island(settings: dict[str, Any]) -> None:
    for config, taken in zip(configs(1, 2, 1), "01", strict=True):
        share.take_gpus(config, "cuda")
        assert settings == {"jax_cuda_visible_devices": taken}
    share.take_gpus(configs(1, 2, 1)[0], "rocm")
    assert settings["jax_rocm_visible_devices"] == "0"


def test_islands_that_share_gpus_share_their_memory(settings: dict[str, Any]) -> None:
    config = configs(4, 1, 1)[3]
    share.take_gpus(config, "cuda")
    assert settings.pop("jax_pjrt_client_create_options") == {"memory_fraction": 0.375}
    assert settings == {"jax_cuda_visible_devices": "1"}
    os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = ".2"  # What the user says stands.
    settings.clear()
    share.take_gpus(config, "cuda")
    assert settings == {"jax_cuda_visible_devices": "1"}


def test_a_host_that_is_alone_takes_all(settings: dict[str, Any]) -> None:
    (config,) = configs(1, 1, 0)
    before = dict(os.environ)
    share.take_gpus(config, "cuda")
    share.take_chips(config, None)
    assert not settings
    assert os.environ == before


def test_chips_of_hosts_of_one_island(settings: dict[str, Any]) -> None:
    told: dict[str, list[str]] = {}

    def exchange(key: str, value: str) -> list[str]:
        told[key] = ["8476", value]
        return told[key]

    share.take_chips(configs(1, 2, 2)[1], cast(Any, SimpleNamespace(exchange=exchange)))
    variables = {name: value for name, value in os.environ.items() if "TPU" in name}
    port = told["tpu_port"][1]
    assert variables == {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "CLOUD_TPU_TASK_ID": "1",
        "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,2,1",
        "TPU_PROCESS_ADDRESSES": f"localhost:8476,localhost:{port}",
        "TPU_PROCESS_BOUNDS": "2,1,1",
        "TPU_PROCESS_PORT": port,
        "TPU_VISIBLE_CHIPS": "2,3",
    }


def test_chips_that_cannot_be_split(settings: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="2 hosts with 1 TPU chips each do not lie in a way that is known"):
        share.take_chips(configs(1, 2, 1)[0], None)
    with pytest.raises(RuntimeError, match="8 islands need chips of their own, and this machine has 4"):
        share.take_chips(configs(8, 1, 1)[0], None)
    os.environ["TPU_VISIBLE_CHIPS"] = "3"  # What the user says stands.
    before = dict(os.environ)
    share.take_chips(configs(8, 1, 1)[0], None)
    assert os.environ == before


def test_the_platform_is_named_as_jaxlib_names_it_to_lowering() -> None:
    for raw in ("cuda", "rocm"):
        client = SimpleNamespace(platform="gpu", _raw_platform=raw)
        assert jaxlib.platform_name(client) == raw
        assert not jaxlib.is_cpu(client)
    assert jaxlib.is_cpu(SimpleNamespace(platform="cpu", _raw_platform="cpu"))


def test_attributes_that_kernels_are_chosen_by() -> None:
    device = SimpleNamespace(compute_capability="9.0", core_count=132, shared_memory_per_block_optin=232448, coords=[1])
    assert jaxlib.device_attributes(device) == {**vars(device), "coords": (1,)}


class Driver:
    """CUDA's driver, of whose memory is a dictionary by address."""

    def __init__(self, memory: dict[int, npt.NDArray[Any]]) -> None:
        self.memory = memory
        self.status = 0
        self.streams: list[int | None] = []

    def cuMemcpyDtoHAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:  # noqa: N802
        ctypes.memmove(target, self.memory[source.value].ctypes.data, size.value)
        return self.status

    def cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:  # noqa: N802
        ctypes.memmove(self.memory[target.value].ctypes.data, source, size.value)
        return self.status

    def cuStreamSynchronize(self, stream: Any) -> int:  # noqa: N802
        self.streams.append(stream.value)
        return 0


def lent(address: int, elements: npt.NDArray[Any], *, device: int = 2, writeable: bool = True) -> Any:
    class Buffer:
        shape, dtype = elements.shape, elements.dtype
        __cuda_array_interface__: ClassVar = {"data": (address, not writeable)}

        def __dlpack_device__(self) -> tuple[int, int]:
            return device, 0

        def __array__(self, *_: Any, **__: Any) -> npt.NDArray[Any]:
            if device != 1:
                raise TypeError("it is on a device")
            return elements

    Buffer.writeable = writeable
    return Buffer()


def test_buffers_that_a_program_lends_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = {64: np.arange(6, dtype=np.float32).reshape(2, 3), 128: np.zeros((2, 3), np.float32)}
    driver = Driver(memory)
    monkeypatch.setattr(buffers, "_driver", lambda: driver)
    sent: list[Any] = []

    class Calls:
        def call(self, callbacks: Any, index: int, args: tuple[Elements, ...], *, in_place: bool) -> Any:
            sent.extend(args)
            assert in_place
            doubled = callbacks_module.array(args[0]) * 2
            return None, callbacks_module.elements(doubled), None

    stand_in = callbacks_module._StandIn(cast(Any, Calls()), cast(Any, None), 0)
    lends = [lent(64, memory[64], writeable=False), lent(128, memory[128]), lent(128, memory[128])]
    stand_in(SimpleNamespace(stage="execute", stream=7), *lends)
    np.testing.assert_array_equal(memory[128], np.arange(6).reshape(2, 3) * 2)
    assert [each.writeable for each in sent] == [False, True, True]
    assert sent[2].same_as == 1  # two buffers of one memory
    assert set(driver.streams) == {7}

    driver.status = 700
    with pytest.raises(RuntimeError, match="cuMemcpyDtoHAsync_v2 ended with 700"):
        LentBuffer(SimpleNamespace(stream=7), lends[0])
    with pytest.raises(RuntimeError, match=r"works on CPUs and CUDA.*DLPack numbers 10"):
        LentBuffer(SimpleNamespace(stream=7), lent(64, memory[64], device=10))
