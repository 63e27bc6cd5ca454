"""XLA's profiler, for this process and its devices."""

from __future__ import annotations

from typing import Any

import jaxlib.version
from jax._src.lib import _profiler

VERSION: str = jaxlib.version.__version__


class Trace:
    """What this process and its devices do, from now until `stop`. There may be one at a time."""

    def __init__(self, host_level: int | None, python: bool, advanced: dict[str, bool | int | str]) -> None:
        options = _profiler.ProfileOptions()
        if host_level is not None:
            options.host_tracer_level = host_level
        options.python_tracer_level = int(python)
        options.advanced_configuration = advanced
        _profiler.clear_metadata()
        _profiler.set_metadata("jaxlib_version", VERSION)
        self._session: Any = _profiler.ProfilerSession(options)

    def stop(self) -> bytes:
        """A serialized `XSpace`, which is what an `xplane.pb` holds."""
        return self._session.stop()
