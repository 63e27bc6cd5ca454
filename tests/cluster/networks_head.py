"""A head whose workers are on other machines, which are network namespaces: `networks_head.py NAMESPACE=ADDRESS ...`.

There is one for each host. The commands of the head reach a worker by a unix socket, as namespaces share the files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from namespaces import inside

from polypath import head
from polypath.launch.config import HeadConfig
from polypath.launch.local import LocalLauncher
from polypath.types import HostId

MACHINES = [argument.split("=") for argument in sys.argv[1:]]


class NamespaceLauncher(LocalLauncher):
    """Starts each worker on its machine."""

    def through(self, host: HostId) -> Sequence[str]:
        return inside(MACHINES[host][0])


class Head(head.Head):
    """A head of workers on other machines."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(msgspec.structs.replace(config, addresses=tuple(address for _, address in MACHINES)))

    def make_launcher(self, config: HeadConfig, exited: Any, relay_ended: Any) -> NamespaceLauncher:
        return NamespaceLauncher(exited, relay_ended, log_dir=Path(config.log_dir), platform=config.platform)


if __name__ == "__main__":
    head.main(Head)
