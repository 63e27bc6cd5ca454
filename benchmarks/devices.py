"""How many real devices one worker bears, and whether it computes right on them: Polypath beside JAX in process."""

from __future__ import annotations

from typing import Final

import lineup
from comparison import Asked, Question
from lineup import Contender

DEVICES: Final = (128, 256, 512)
METRICS: Final = {
    "up_s": "up,\ns",
    "first_s": "first\nresult, s",
    "step_ms": "awaited\nstep, ms",
    "error_millionths": "largest\nerror, 1e-6",
}
CAPTION: Final = (
    "CPU devices of one process. A step: a jitted shard_map of a matrix product over a mesh of two axes, with a psum "
    "over one and a pmean over the other. awaited step: median of {calls}.\n"
    "up: until jax.devices() has returned, for Polypath from polypath.start(). first result: from there too, compiled "
    "or from the compile cache. largest error: of the result against numpy's in float64, by its largest element."
)


def calls(asked: Asked) -> int:
    return 10 if asked.quick else 50


def contenders(asked: Asked) -> list[Contender]:
    return [each for devices in DEVICES for each in _of(devices, calls(asked))]


def _of(devices: int, calls: int) -> list[Contender]:
    group, script, arguments = f"{devices} devices", "jax_devices.py", [f"--devices={devices}", f"--calls={calls}"]
    return [
        Contender("Polypath", group, lambda: lineup.plain(script, ["--hosts=1", *arguments])),
        Contender("JAX in process", group, lambda: lineup.jax(script, arguments, devices)),
    ]


if __name__ == "__main__":
    Question("Many real devices", contenders, METRICS, lambda asked: CAPTION.format(calls=calls(asked)), rounds=3).ask()
