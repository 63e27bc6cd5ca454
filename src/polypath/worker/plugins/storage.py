"""Where checkpoints and traces are: absolute paths, and what tensorstore knows by URL.

A path is the same folder on every host, or the parts of a checkpoint do not come together.
tensorstore is an optional part of Polypath, and is imported when it is needed.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, Final

from polypath.types import Code
from polypath.worker.failures import WorkerFailure

_URLS: Final = ("gs://", "s3://")


def check(location: str, what: str) -> None:
    """Refuse a location that cannot be.

    Raises:
        WorkerFailure: it is neither an absolute path nor a URL that is served.
    """
    if _path(location) is None and not location.startswith(_URLS):
        raise WorkerFailure(
            Code.INVALID_ARGUMENT,
            f"{what} cannot be in {location!r}: give an absolute path that all hosts share, or a URL that begins with "
            f"{' or '.join(_URLS)}.",
        )


def write_file(folder: str, name: str, data: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        WorkerFailure: it cannot be written.
    """
    path = _path(folder)
    try:
        if path is None:
            tensorstore().KvStore.open(f"{folder}/").result().write(name, data).result()
            return
        path.mkdir(parents=True, exist_ok=True)
        half = path / f".{name}.{os.getpid()}"
        half.write_bytes(data)
        half.replace(path / name)
    except (OSError, ValueError) as error:
        raise failed(f"{folder}/{name} cannot be written", error) from error


def kvstore(location: str) -> dict[str, Any]:
    """The spec of a folder, for tensorstore."""
    path = _path(location)
    if path is not None:
        return {"driver": "file", "path": f"{path}/"}
    return tensorstore().KvStore.Spec(location.rstrip("/") + "/").to_json()


def tensorstore() -> Any:
    """The library.

    Raises:
        WorkerFailure: it is not installed here.
    """
    try:
        return importlib.import_module("tensorstore")
    except ImportError as error:
        raise WorkerFailure(
            Code.FAILED_PRECONDITION,
            f"The workers read and write checkpoints with tensorstore, which cannot be imported ({error}); "
            "run `pip install 'polypath[checkpoint]'` in their environment.",
        ) from error


def failed(what: str, error: BaseException) -> WorkerFailure:
    """A failure of storage. Its code says that no device is to blame, and so that trying again is no use."""
    # The name of absl's code, as tensorstore begins its messages: elastic training would read it as a lost slice.
    text = str(error)
    name, colon, rest = text.partition(": ")
    if colon and name in Code.__members__:
        text = rest
    return WorkerFailure(Code.FAILED_PRECONDITION, f"{what}: {text}.")


def _path(location: str) -> Path | None:
    path = Path(location.removeprefix("file://"))
    return path if path.is_absolute() else None
