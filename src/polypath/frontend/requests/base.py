"""What a handler of one kind of request is, and what its functions share.

`decode` turns the request's body into an event for the controller, or into an `Answer` where
the frontend knows it; `encode` writes the result into the response. Both raise `Refused` for
what cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from polypath.controller.events import AnyRequest, Handle, Result
from polypath.frontend import dtypes, shardings
from polypath.frontend.host_buffers import HostBuffers
from polypath.frontend.refused import invalid
from polypath.frontend.view import ClusterView
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.types import SERVER_HANDLES, ArraySpec, Code, Failure, SessionId

_R = TypeVar("_R")


@dataclass
class Scope:
    """What decoding and encoding know of their session."""

    session: SessionId
    view: ClusterView
    buffers: HostBuffers
    shardings: shardings.Shardings
    python: str = ""
    """The client's version of Python, where it told."""
    deletions: set[Handle] = field(default_factory=set[Handle])
    """Futures of batched deletes that the client has yet to check."""


class Answer(NamedTuple):
    """A result that needs no controller."""

    result: Result


Decode = Callable[[Scope, int, Any], AnyRequest | Answer]
Encode = Callable[[Scope, Any, Any, pb.IfrtResponse], None]


class Handler(NamedTuple):
    """How one kind of request is served."""

    decode: Decode
    encode: Encode | None = None
    """None where the response has nothing to say but that it is there."""
    makes: str = ""
    """The field with the client's handles for what it makes: errors where it is refused."""
    buffers: Callable[[Any], Sequence[int]] | None = None
    """The host buffers it needs."""
    tells_failure: bool = False
    """`encode` takes a `Failure` too; otherwise it goes into the response's metadata."""
    batched: bool = False
    """The client sends it from its batcher, which does not count the response."""
    kept: bool = False
    """The client keeps the response as long as itself: its number is out of the row."""

    def made(self, body: Any) -> tuple[Handle, ...]:
        """The handles that a request makes, as far as they are any."""
        handles: Any = getattr(body, self.makes) if self.makes else ()
        values: tuple[int, ...] = (handles,) if isinstance(handles, int) else tuple(handles)
        return tuple(dict.fromkeys(handle for handle in values if 0 < handle < SERVER_HANDLES))


def expect(result: Result, kind: type[_R]) -> _R:
    """The result, which the controller promises to be a `kind`."""
    if not isinstance(result, kind):
        raise AssertionError(f"the controller answered {type(result).__name__}, not {kind.__name__}")
    return result


def new_handles(handles: Iterable[int], count: int | None = None) -> tuple[Handle, ...]:
    """Handles that the client made, for `count` new arrays.

    Raises:
        Refused: they are not as many, not in the client's range, or not all different.
    """
    made = tuple(handles)
    if count is not None and len(made) != count:
        raise invalid(f"The request makes {count} arrays and gives {len(made)} handles.")
    if made and not 0 < min(made) <= max(made) < SERVER_HANDLES:
        raise invalid("The client's handles must be from 1 to 2**62-1.")
    if len(set(made)) < len(made):
        raise invalid("The request gives one handle to two arrays.")
    return made


def known_handles(handles: Iterable[int]) -> tuple[Handle, ...]:
    """Handles that the request refers to.

    Raises:
        Refused: one is 0, which names nothing.
    """
    used = tuple(handles)
    if 0 in used:
        raise invalid("The request refers to handle 0, which names nothing.")
    return used


def spec(scope: Scope, proto: pb.ArraySpecProto) -> ArraySpec:
    """The type and place of an array."""
    return ArraySpec(dtypes.decode(proto.dtype), shardings.shape(proto.shape), scope.shardings.decode(proto.sharding))


def donates(semantics: pb.ArrayCopySemantics) -> bool:
    """Whether the client gives up the inputs."""
    return semantics == pb.ARRAY_COPY_SEMANTICS_DONATE_INPUT


def status(failure: Failure) -> pb.StatusProto:
    """A failure as the wire tells it."""
    return pb.StatusProto(code=failure.code.name, message=failure.message)


def failure_of(proto: pb.StatusProto) -> Failure:
    """A failure that the client tells.

    Raises:
        Refused: it is none.
    """
    if proto.code not in Code.__members__.values():
        raise invalid(f"Status {proto.code} is no failure.")
    return Failure(Code(proto.code), proto.message)
