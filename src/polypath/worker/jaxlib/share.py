"""Which of a machine's accelerators a worker takes, where other workers of the cluster are beside it.

All workers of a cluster are on one machine. Each island gets GPUs or chips of its own as long as there are
enough; then islands share them, and each takes its part of their memory. Two workers of one island never
share one: NCCL refuses to meet the same GPU twice, and a TPU chip belongs to one process.

The names of environment variables and the shapes of TPUs are those of JAX's own launcher of tests
(`jax._src.test_multiprocess`).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any, Final

import jax
import msgspec
from jax._src import hardware_utils as _hardware
from jax._src import lib as _lib

from polypath.worker.config import WorkerConfig
from polypath.worker.jaxlib.group import Group

_log = logging.getLogger(__name__)

_MEMORY_OF_A_GPU: Final = 0.75
"""What XLA takes of a GPU's memory unless it is told otherwise."""
_MEMORY_VARIABLES: Final = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")

_TPU_VARIABLES: Final = ("TPU_VISIBLE_CHIPS", "TPU_PROCESS_BOUNDS", "TPU_PROCESS_ADDRESSES")
_TPU_BOUNDS: Final[dict[tuple[int, int], tuple[str, str]]] = {
    (1, 1): ("1,1,1", "1,1,1"),
    (1, 2): ("1,1,1", "1,2,1"),
    (1, 4): ("1,1,1", "2,2,1"),
    (1, 8): ("1,1,1", "2,4,1"),
    (2, 2): ("2,1,1", "1,2,1"),
    (2, 4): ("1,2,1", "2,2,1"),
    (4, 1): ("2,2,1", "1,1,1"),
    (8, 1): ("4,2,1", "1,1,1"),
}
"""By an island's workers and the chips of each: how the workers lie, and the chips of each."""


class Share(msgspec.Struct, frozen=True):
    """A worker's part of its machine's accelerators."""

    devices: tuple[int, ...]
    """As the machine numbers them, from 0."""
    islands: int
    """How many islands have one of these devices; each has a worker there."""


def share_of(config: WorkerConfig, found: int) -> Share:
    """The part of `found` accelerators that this worker takes.

    Raises:
        RuntimeError: there are too few for the workers of one island.
    """
    each = config.devices or found // (config.nodes * config.islands) or found // config.nodes
    places = found // (config.nodes * each) if each else 0
    if not places:
        wanted = config.nodes * (config.devices or 1)
        raise RuntimeError(
            f"An island of {config.nodes} hosts with {config.devices or 'at least 1'} each needs {wanted} GPUs or "
            f"chips, and this machine has {found}: start fewer hosts, or fewer devices of each."
        )
    place = config.island % places
    first = (place * config.nodes + config.node) * each
    if unused := found - min(places, config.islands) * config.nodes * each:
        _log.info("%d of this machine's %d accelerators are not part of the cluster.", unused, found)
    return Share(tuple(range(first, first + each)), len(range(place, config.islands, places)))


def take_gpus(config: WorkerConfig, name: str) -> None:
    """Have the client of `cuda` or `rocm` that is made next see this worker's GPUs alone.

    Raises:
        RuntimeError: the machine has too few.
    """
    if config.nodes * config.islands == 1 and not config.devices:
        return  # It takes all there are.
    share = share_of(config, _GPUS[name]())
    jax.config.update(f"jax_{name}_visible_devices", ",".join(map(str, share.devices)))
    said = jax.config.jax_pjrt_client_create_options or any(map(os.environ.get, _MEMORY_VARIABLES))
    if share.islands > 1 and not said:
        fraction = _MEMORY_OF_A_GPU / share.islands
        jax.config.update("jax_pjrt_client_create_options", {"memory_fraction": fraction})
        _log.info("%d islands share this worker's GPUs: it takes %.3f of their memory.", share.islands, fraction)


def _count_cuda() -> int:
    versions: Any = _lib.cuda_versions
    if versions is None:
        raise RuntimeError("jaxlib's plugin for CUDA is not installed")
    return versions.cuda_device_count()


_GPUS: Final[dict[str, Callable[[], int]]] = {"cuda": _count_cuda, "rocm": _hardware.num_available_amd_gpus}


def take_chips(config: WorkerConfig, group: Group | None) -> None:
    """Have the TPU client that is made next see this worker's chips alone; what the user has set stays.

    Raises:
        RuntimeError: the machine has too few, or workers cannot lie like that.
    """
    if config.nodes * config.islands == 1 and not config.devices:
        return
    if kept := [name for name in _TPU_VARIABLES if os.environ.get(name)]:
        _log.info("%s is set, so this worker's chips are what it says.", kept[0])
        return
    chips, _ = _hardware.num_available_tpu_chips_and_device_id()
    share = share_of(config, chips)
    if share.islands > 1:
        raise RuntimeError(
            f"{config.islands} islands need chips of their own, and this machine has {chips}: a TPU chip belongs to "
            "one process, so start fewer hosts."
        )
    bounds = _TPU_BOUNDS.get((config.nodes, len(share.devices)))
    if bounds is None:
        known = ", ".join(f"{nodes} with {each}" for nodes, each in _TPU_BOUNDS)
        raise RuntimeError(
            f"{config.nodes} hosts with {len(share.devices)} TPU chips each do not lie in a way that is known here: "
            f"choose hosts and devices per host from {known}, or set TPU_PROCESS_BOUNDS and what belongs to it."
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    ports = [port] if group is None else group.exchange("tpu_port", port)
    os.environ |= {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "CLOUD_TPU_TASK_ID": str(config.node),
        "TPU_CHIPS_PER_PROCESS_BOUNDS": bounds[1],
        "TPU_PROCESS_ADDRESSES": ",".join(f"localhost:{each}" for each in ports),
        "TPU_PROCESS_BOUNDS": bounds[0],
        "TPU_PROCESS_PORT": port,
        "TPU_VISIBLE_CHIPS": ",".join(map(str, share.devices)),
    }
