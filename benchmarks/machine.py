"""What a benchmark's figures were made on, as facts to print beside them."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path

import psutil


def describe() -> dict[str, str]:
    """The machine, and how busy others kept it just now."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "cpu": model[1] if model else platform.machine(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def versions(*packages: str) -> dict[str, str]:
    return {"python": platform.python_version()} | {package: metadata.version(package) for package in packages}
