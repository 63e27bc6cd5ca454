"""Programs in forms that jaxlib's proxy client refuses to handle.

- A program that uses an operation younger than twelve weeks, such as an async collective, is sent beside the request:
  jaxlib's client always writes StableHLO of a version that old, and cannot write such an operation.
- An executable is serialized as what it was compiled from, which the controller remembers; loading it compiles that, or
  finds it in the workers' cache. `jax_compilation_cache_dir` and `jax.experimental.serialize_executable` need this.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import jax
import msgspec
import numpy as np
from jax._src import lib
from jax._src.interpreters import pxla
from jax._src.lib.mlir.dialects import hlo  # pyright: ignore[reportPrivateImportUsage]

from polypath.client.hooks.patches import Patch, getter
from polypath.client.session import Session
from polypath.errors import ClusterError
from polypath.frontend import control_client
from polypath.messages import PROGRAM_OPTION

_errors: Any = jax.errors
_xla: Any = getattr(lib, "xla_client")  # noqa: B009
_jaxlib: Any = getattr(pxla, "_jax")  # noqa: B009
_stablehlo: Any = hlo

_CLIENT: Final = "jax._src.lib:xla_client.Client"
_TOO_NEW: Final = "Failed to serialize StableHLO"
"""What jaxlib's client says of a program that it cannot write."""
_STAND_IN: Final = b"module @stand_in { func.func public @main() { return } }"


class _Serialized(msgspec.Struct, frozen=True, tag="polypath-program-1", array_like=True):
    """An executable as bytes."""

    program: bytes
    """Portable StableHLO."""
    options: bytes
    """A serialized `CompileOptionsProto`."""
    devices: tuple[int, ...]
    """The ids of those it was compiled for, in order."""


def patches(session: Session) -> list[Patch]:
    """This hook's, for `session`."""

    def compile_and_load(
        original: Any, self: Any, computation: Any, executable_devices: Any, *rest: Any, **more: Any
    ) -> Any:
        try:
            return original(self, computation, executable_devices, *rest, **more)
        except _errors.JaxRuntimeError as error:
            version = getattr(self, "stablehlo_current_version", None)
            if _TOO_NEW not in str(error) or not session.is_cluster(self) or version is None:
                raise
        program = _portable(computation, ".".join(map(str, version)))
        options, others = (rest[0], rest[1:]) if rest else (more.pop("compile_options", _xla.CompileOptions()), ())
        before = list(options.env_option_overrides)
        options.env_option_overrides = [*before, (PROGRAM_OPTION, base64.b64encode(program).decode())]
        try:
            return original(self, _STAND_IN, executable_devices, options, *others, **more)
        finally:
            options.env_option_overrides = before

    def supports(original: Any, client: Any) -> bool:
        # Of other clients JAX asks `__getattr__` in its place.
        if session.cluster_socket(client) is None:
            raise AttributeError("supports_executable_serialization")
        return True

    def serialize_executable(original: Any, self: Any, executable: Any) -> bytes:
        path = session.cluster_socket(self)
        return original(self, executable) if path is None else _serialized(executable, path)

    def serialize(original: Any, self: Any) -> bytes:
        path = session.cluster_socket(self.client)
        return original(self) if path is None else _serialized(self, path)

    def deserialize_executable(
        original: Any,
        self: Any,
        serialized: bytes,
        executable_devices: Any,
        compile_options: Any = None,
        *rest: Any,
        **more: Any,
    ) -> Any:
        if session.is_cluster(self):
            return _deserialize(self, serialized, executable_devices, compile_options)
        return original(self, serialized, executable_devices, compile_options, *rest, **more)

    return [
        Patch(
            _CLIENT,
            "compile_and_load",
            compile_and_load,
            "The proxy client cannot write programs of the newest StableHLO.",
        ),
        Patch(_CLIENT, "serialize_executable", serialize_executable, "The proxy client serializes no executable."),
        Patch(_CLIENT, "deserialize_executable", deserialize_executable, "The same, the other way."),
        Patch(
            "jax._src.lib:xla_client.LoadedExecutable",
            "serialize",
            serialize,
            "The compilation cache asks by this name.",
        ),
        Patch(
            _CLIENT,
            "supports_executable_serialization",
            getter(supports),
            "JAX asks before it uses its cache.",
            adds=True,
        ),
    ]


def _portable(computation: Any, readable: str) -> bytes:
    """A program as StableHLO of a version that workers read, which read up to `readable`."""
    if isinstance(computation, bytes):
        return computation  # It was portable when it was serialized.
    version = _stablehlo.get_smaller_version(_stablehlo.get_current_version(), readable)
    return _jaxlib.mlir.serialize_portable_artifact(computation, version, True)  # True: with Shardy's dialect


def _serialized(executable: Any, path: str) -> bytes:
    devices = tuple(device.id for device in executable.local_devices())
    try:
        program, options = control_client.program_source(f"unix:{path}", executable.fingerprint, devices)
    except ClusterError as error:
        raise _errors.JaxRuntimeError(f"FAILED_PRECONDITION: {error}") from error
    return msgspec.msgpack.encode(_Serialized(program, options, devices))


def _deserialize(client: Any, serialized: bytes, devices: Any, options: Any) -> Any:
    try:
        found = msgspec.msgpack.decode(serialized, type=_Serialized)
    except msgspec.DecodeError as error:
        raise _errors.JaxRuntimeError(
            "INVALID_ARGUMENT: These bytes are no executable that was serialized on a cluster of Polypath: "
            f"compile the program here ({error})."
        ) from error
    if options is None:
        devices, options = _placed(client, found, devices)
    return client.compile_and_load(found.program, devices, options)


def _placed(client: Any, found: _Serialized, given: Any) -> tuple[Any, Any]:
    """The devices that a program is loaded on, `given` if they are as many as it needs, and its options for these."""
    options = _xla.CompileOptions.ParseFromString(found.options)
    if len(given) != len(found.devices):
        known = {device.id: device for device in client.devices()}
        missing = [number for number in found.devices if number not in known]
        if missing:
            raise _errors.JaxRuntimeError(
                f"INVALID_ARGUMENT: The executable was compiled for device {missing[0]}, which this cluster does not "
                f"have: give {len(found.devices)} devices as `execution_devices`."
            )
        given = _xla.DeviceList(tuple(known[number] for number in found.devices))
    ids = np.asarray([device.id for device in given]).reshape(max(options.num_replicas, 1), -1)
    options.device_assignment = _xla.DeviceAssignment.create(ids)
    return given, options
