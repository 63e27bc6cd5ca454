"""Which versions of JAX go together with this Polypath: a client may have another than the workers.

Programs and arrays cross in forms that jaxlib keeps readable over several of its versions, so
clients have a wide range. A worker uses jaxlib's internals (`polypath.worker.jaxlib`), so workers have
a narrower one; the dependency on jax in pyproject.toml is theirs. Imports no JAX.
"""

from __future__ import annotations

from typing import Final

from polypath.errors import UnsupportedVersion

OLDEST_CLIENT: Final = (0, 9)
NEWEST_CLIENT: Final = (0, 12)
"""Without their last number."""

OLDEST_WORKER: Final = (0, 10, 2)
TOO_NEW_WORKER: Final = (0, 13)

CLIENTS: Final = "jax {}.{} to {}.{}".format(*OLDEST_CLIENT, *NEWEST_CLIENT)
"""For people."""
WORKERS: Final = "jax>={}.{}.{},<{}.{}".format(*OLDEST_WORKER, *TOO_NEW_WORKER)
"""For pip."""


def parse(version: str) -> tuple[int, ...]:
    """The numbers in a version, up to the first part that has other characters."""
    numbers: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)


def is_client(version: str) -> bool:
    """Whether clients may have this JAX."""
    return OLDEST_CLIENT <= parse(version)[:2] <= NEWEST_CLIENT


def is_worker(version: str) -> bool:
    """Whether workers may have this JAX."""
    return OLDEST_WORKER <= parse(version) < TOO_NEW_WORKER


def check_client(version: str) -> None:
    """Refuse a JAX that clients were not checked with.

    Raises:
        UnsupportedVersion: it is older or newer.
    """
    if not is_client(version):
        raise UnsupportedVersion(
            f"Polypath's client supports {CLIENTS}, and this is jax {version}: install one of those, or another "
            "version of Polypath."
        )


def check_worker(version: str) -> None:
    """Refuse a JAX whose internals are not those that workers use.

    Raises:
        UnsupportedVersion: it is older or newer.
    """
    if not is_worker(version):
        also = ", or start the cluster from an environment that has it and connect from here" * is_client(version)
        raise UnsupportedVersion(
            f"Polypath's workers need {WORKERS}, and this environment has jax {version}: pip install '{WORKERS}'{also}."
        )
