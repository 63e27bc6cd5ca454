"""What a plugin program asks for: the JSON of `pathwaysutils` (and a request of our own), read into frozen structs.

Owns the names of the requests and of their fields. Does nothing about them: cutting anew is the
controller's, storage and traces are the workers'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from polypath.errors import ProtocolError
from polypath.types import DTYPES, Sharding, Struct

_NAMES: Final = {primitive: name for name, primitive in DTYPES.items()}


# --- What is asked ----------------------------------------------------------------------------


class StoredArray(Struct, frozen=True):
    """An array in storage, and how it is cut over devices."""

    location: str
    """The folder of the checkpoint: an absolute path, or a URL."""
    name: str
    dtype: str
    """Empty where the array that is written says it."""
    shape: tuple[int, ...]
    sharding: Sharding
    timeout: float
    """Seconds."""


class Read(Struct, frozen=True, tag="R"):
    """Make arrays of what is in storage. All are on the same devices."""

    arrays: tuple[StoredArray, ...]


class Write(Struct, frozen=True, tag="W"):
    """Put the arguments into storage. All are on the same devices."""

    arrays: tuple[StoredArray, ...]


class Reshard(Struct, frozen=True, tag="C"):
    """Cut the arguments anew. The arguments are all on the same devices."""

    sources: tuple[Sharding, ...]
    targets: tuple[Sharding, ...]
    donate: bool


class Profile(Struct, frozen=True, tag="P"):
    """Start a trace when run for the first time, end it when run for the second."""

    folder: str
    """What TensorBoard is told: an absolute path, or a URL."""
    session: str
    """Names the run in it; empty where the client does not say."""
    hosts: int
    """At most so many are traced; 0 for all."""
    seconds: float
    """The trace ends by itself after so long; 0 for never."""
    host_level: int | None
    python: bool
    advanced: dict[str, bool | int | str]
    """Options of the platform's own tracer."""
    results: int
    """How many arrays (of objects, that nobody reads) the client expects from each run."""


Wanted = Literal["ready", "elements", "address", "arrays"]
"""Of the arrays that an `Attach` is run with: that they are computed, the elements of a small one, where a shard is, or
all elements."""


class Attach(Struct, frozen=True):
    """What the workers and the client send each other over the client's links.

    Polypath's own client asks for this, none of `pathwaysutils`. The number of the launch is that of the request there.
    """

    devices: int
    """As many as each argument has shards; jaxlib's client counts them."""
    what: Wanted | Given


class Given(Struct, frozen=True):
    """An array that the client sends: the program's one result."""

    dtype: str
    shape: tuple[int, ...]
    sharding: Sharding


OnWorkers = Read | Write | Profile
Asked = OnWorkers | Reshard | Attach

ATTACH_REQUEST: Final = "polypathAttachRequest"

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(OnWorkers)


def encode(asked: OnWorkers) -> bytes:
    """A request on its way to the workers."""
    return _encoder.encode(asked)


def decode(data: bytes) -> OnWorkers:
    """A request, as `encode` made it."""
    return _decoder.decode(data)


def parse(program: bytes) -> Asked:
    """What the JSON asks for.

    Raises:
        ProtocolError: it is nothing that Polypath knows.
    """
    try:
        requests = msgspec.json.decode(program, type=dict[str, msgspec.Raw])
        (name, body), *more = requests.items()
    except (msgspec.DecodeError, ValueError) as error:
        raise ProtocolError(f"A plugin program must be a JSON object with one request ({error}).") from None
    reader = _READERS.get(name)
    if reader is None or more:
        raise ProtocolError(
            f"A plugin program asks for {', '.join(requests)}; the requests that are served are {', '.join(_READERS)}."
        )
    try:
        return reader(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"The plugin program's {name} cannot be read ({error}).") from None


# --- How it is written in JSON ----------------------------------------------------------------


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is not known might matter: it is refused."""


class _Devices(_Struct, frozen=True):
    device_ids: tuple[int, ...]


class _Duration(_Struct, frozen=True):
    seconds: int = 0
    nanos: int = 0


class _Shape(_Struct, frozen=True):
    xla_primitive_type_str: str
    dimensions: tuple[int, ...]


class _Stored(_Struct, frozen=True):
    # msgspec takes base64 for bytes.
    b64_location: bytes
    b64_name: bytes
    b64_hlo_sharding_string: bytes
    shape: tuple[int, ...] | _Shape
    devices: _Devices
    timeout: _Duration


class _BulkRead(_Struct, frozen=True):
    read_requests: tuple[_Stored, ...]


class _BulkWrite(_Struct, frozen=True):
    write_requests: tuple[_Stored, ...]


class _Sharding(_Struct, frozen=True):
    devices: _Devices
    xla_hlo_sharding: bytes
    memory_kind: str = ""


class _Given(_Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    sharding: _Sharding


class _Attach(_Struct, frozen=True):
    devices: int
    what: Wanted | None = None
    gives: _Given | None = None


class _Reshard(_Struct, frozen=True, rename="camel"):
    donate_input: bool
    in_sharding: tuple[_Sharding, ...]
    out_sharding: tuple[_Sharding, ...]


class _Advanced(_Struct, frozen=True, rename="camel"):
    bool_value: bool | None = None
    int64_value: int | None = None
    string_value: str | None = None

    @property
    def value(self) -> bool | int | str:
        given = [each for each in (self.bool_value, self.int64_value, self.string_value) if each is not None]
        if len(given) != 1:
            raise msgspec.ValidationError("an advanced option must have one value")
        return given[0]


class _PathwaysOptions(_Struct, frozen=True, rename="camel"):
    enable_python_tracer: bool = False
    advanced_configuration: dict[str, _Advanced] = {}


class _TraceOptions(_Struct, frozen=True, rename="camel"):
    trace_directory: str = ""
    host_trace_level: int | None = None
    pw_trace_options: _PathwaysOptions = _PathwaysOptions()
    trace_session_name: str = ""


class _Profile(_Struct, frozen=True, rename="camel"):
    trace_location: str
    max_num_hosts: int = 0
    include_resource_managers: bool = False
    """Polypath's head runs no programs, so there is nothing of it to trace."""
    max_duration_secs: float = 0.0
    xprof_trace_options: _TraceOptions | None = None


def _array(stored: _Stored) -> StoredArray:
    shape, dtype = stored.shape, ""
    if isinstance(shape, _Shape):
        known = _NAMES.get(shape.xla_primitive_type_str)
        if known is None:
            raise msgspec.ValidationError(f"there is no type {shape.xla_primitive_type_str!r}")
        shape, dtype = shape.dimensions, known
    if any(size < 0 for size in shape):
        raise msgspec.ValidationError(f"an array cannot have the shape {shape}")
    return StoredArray(
        location=stored.b64_location.decode(),
        name=stored.b64_name.decode(),
        dtype=dtype,
        shape=shape,
        sharding=Sharding(stored.devices.device_ids, op_sharding=stored.b64_hlo_sharding_string),
        timeout=stored.timeout.seconds + stored.timeout.nanos / 1e9,
    )


def _arrays(stored: tuple[_Stored, ...], typed: bool) -> tuple[StoredArray, ...]:
    arrays = tuple(map(_array, stored))
    if not arrays:
        raise msgspec.ValidationError("it names no array")
    if any(bool(array.dtype) != typed for array in arrays):
        raise msgspec.ValidationError("a shape has the type of its elements where it is read, and only there")
    if len({array.sharding.devices for array in arrays}) > 1:
        raise msgspec.ValidationError("its arrays are on different devices: send a request for each list of devices")
    return arrays


def _read(body: msgspec.Raw) -> Read:
    return Read(_arrays((msgspec.json.decode(body, type=_Stored),), True))


def _bulk_read(body: msgspec.Raw) -> Read:
    return Read(_arrays(msgspec.json.decode(body, type=_BulkRead).read_requests, True))


def _write(body: msgspec.Raw) -> Write:
    return Write(_arrays((msgspec.json.decode(body, type=_Stored),), False))


def _bulk_write(body: msgspec.Raw) -> Write:
    return Write(_arrays(msgspec.json.decode(body, type=_BulkWrite).write_requests, False))


def _cut(sharding: _Sharding) -> Sharding:
    return Sharding(sharding.devices.device_ids, sharding.memory_kind, sharding.xla_hlo_sharding)


def _reshard(body: msgspec.Raw) -> Reshard:
    found = msgspec.json.decode(body, type=_Reshard)
    sources, targets = tuple(map(_cut, found.in_sharding)), tuple(map(_cut, found.out_sharding))
    if not sources or len(sources) != len(targets):
        raise msgspec.ValidationError("it must have as many new shardings as old ones, and at least one")
    if len({frozenset(source.devices) for source in sources}) > 1:
        raise msgspec.ValidationError("its arrays are on different devices: send a request for each set of devices")
    return Reshard(sources, targets, found.donate_input)


def _profile(body: msgspec.Raw) -> Profile:
    found = msgspec.json.decode(body, type=_Profile)
    options = found.xprof_trace_options or _TraceOptions()
    tracer = options.pw_trace_options
    return Profile(
        folder=options.trace_directory or found.trace_location,
        session=options.trace_session_name,
        hosts=max(found.max_num_hosts, 0),
        seconds=max(found.max_duration_secs, 0.0),
        host_level=options.host_trace_level,
        python=tracer.enable_python_tracer,
        advanced={name: each.value for name, each in tracer.advanced_configuration.items()},
        results=0 if found.xprof_trace_options is None else 1,
    )


def _attach(body: msgspec.Raw) -> Attach:
    found = msgspec.json.decode(body, type=_Attach)
    given = found.gives
    if (found.what is None) == (given is None):
        raise msgspec.ValidationError("it must either say what is wanted or give an array")
    if given is None:
        assert found.what is not None
        return Attach(found.devices, found.what)
    if given.dtype not in DTYPES or any(size < 0 for size in given.shape):
        raise msgspec.ValidationError(f"there are no arrays of {given.dtype}{list(given.shape)}")
    return Attach(found.devices, Given(given.dtype, given.shape, _cut(given.sharding)))


_READERS: Final[dict[str, Callable[[msgspec.Raw], Any]]] = {
    "persistenceReadRequest": _read,
    "bulk_persistence_read_request": _bulk_read,
    "persistenceWriteRequest": _write,
    "bulk_persistence_write_request": _bulk_write,
    "reshardRequest": _reshard,
    "profileRequest": _profile,
    ATTACH_REQUEST: _attach,
}
