"""One client: its requests in their order, and the responses to them.

Owns the client's host buffers and what is not answered yet. Turns requests
into events by the table in `requests`, and never decides anything about arrays.

Reading stops at a request whose host buffers have not arrived (they come on streams of their
own) until they have: so it and all after it wait in order, and the event loop does not. The
client's uploads go over another connection, so they cannot get stuck behind that.

What the client counts. It keeps a Python traceback ("user context") for each request until the
server says that it holds no reference to it any more, in the responses' `seq_num` and
`destroyed_user_context_ids`. It takes those of the responses that have a body, and frees
contexts only as far as their numbers follow each other from 0 without a gap; an id that it did
not send with a request, or a second time, aborts its process. Three kinds of responses it does
not count, because its batcher reads them: those to (batched) deletes and destructs, and to the
check of the future that a delete returned. A response takes its place in the row when the client
drops it, and that to Init it never drops: with a number of the row it would keep all contexts. We
hold no contexts, so each response gives back the id of its own request, and that of a response that
is not counted goes with the next that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from polypath.controller.events import AnyRequest, Close, Executed, MakeErrors, Result
from polypath.frontend.host_buffers import HostBuffers
from polypath.frontend.http2_stream import Wait
from polypath.frontend.refused import Buffer, Refused, invalid
from polypath.frontend.requests import HANDLERS, Answer, Handler, Scope, status
from polypath.frontend.shardings import Shardings
from polypath.frontend.view import ClusterView
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.types import ArraySpec, Failure, SessionId, Sharding

Submit = Callable[[AnyRequest | Close], None]

_MALFORMED: Final = "The client sent bytes that are no IFRT request; the session ends: connect with stock jaxlib."

_OUT_OF_THE_ROW: Final = 2**62
"""A response's number that none before it leads to."""
_NO_NEWS: Final = Executed(0, ())
"""A program without results ran: the client waits for this once, when it does not know yet that there are none."""
_PATIENCE: Final = 0.005
"""Seconds that responses which nobody waits for are gathered: each write wakes threads of the client's."""
_GATHERED: Final = 256
"""So many of them are sent at once."""


class _Pending(NamedTuple):
    """A request that is not answered yet."""

    handler: Handler
    body: Any
    response: str
    """The name of its response."""
    context: int
    counted: bool
    waited: bool = True
    """Whether the client waits for the response."""
    refused: Failure | None = None
    """Why the request was refused, while what it would have made becomes an error."""


class Session:
    """The state of one client, whose responses `write` takes."""

    def __init__(
        self,
        id_: SessionId,
        view: ClusterView,
        buffers: HostBuffers,
        submit: Submit,
        write: Callable[[bytes], None],
        python: str = "",
        link: str = "",
    ) -> None:
        self.id = id_
        self.link = link
        """The name by which the client's links are known; empty where it has none."""
        self.buffers = buffers
        self.requests = 0
        self.refusals = 0
        self._scope = Scope(id_, view, buffers, Shardings(view), python)
        self._submit = submit
        self._write = write
        self._pending: dict[int, _Pending] = {}
        self._next_seq_num = 0
        self._contexts: list[int] = []
        self._acknowledgements: list[tuple[int, _Pending, Result]] = []
        """Results that the client does not wait for; made into responses when they are sent."""
        self._closed = False

    # --- Requests -----------------------------------------------------------------------------

    def receive(self, data: Buffer) -> Wait | None:
        """Serve a request at once, or say what it waits for; no other may be served before it.

        Raises:
            Refused: the bytes make no sense, and the session cannot go on.
        """
        try:
            request = pb.IfrtRequest.FromString(data if isinstance(data, bytes) else bytes(data))
        except DecodeError as error:
            raise invalid(_MALFORMED) from error
        return self.serve(request)

    def serve(self, request: pb.IfrtRequest) -> Wait | None:
        """Turn a request into an event, or say what it waits for."""
        self.requests += 1
        kind = request.WhichOneof("request")
        metadata = request.request_metadata
        op, context = metadata.op_id, metadata.user_context_id
        if kind is None:
            self._reject(op, context, invalid("The request is empty, or of a newer protocol."))
            return None
        handler, body = HANDLERS[kind], getattr(request, kind)
        if op in self._pending:
            self._reject(op, context, invalid(f"Operation {op} is not answered yet; its number is taken."))
            return None
        waited = not (handler.batched or (handler.makes and getattr(body, handler.makes)))
        response = f"{kind.removesuffix('request')}response"
        pending = _Pending(handler, body, response, context, self._is_counted(handler, kind, body), waited)
        buffers = handler.buffers(body) if handler.buffers else ()
        if buffers and not self.buffers.has_all(buffers):
            return partial(self._submit_once_stored, op, pending, buffers)
        self._decode(op, pending, buffers)
        return None

    async def _submit_once_stored(self, op: int, pending: _Pending, buffers: Sequence[int]) -> None:
        await self.buffers.wait_stored(buffers)
        self._decode(op, pending, buffers)

    def _decode(self, op: int, pending: _Pending, buffers: Sequence[int]) -> None:
        try:
            action = pending.handler.decode(self._scope, op, pending.body)
        except Refused as refused:
            self.buffers.drop(buffers)
            self._refuse(op, pending, refused.failure)
            return
        self.buffers.drop(buffers)
        if isinstance(action, Answer):
            self._respond(op, pending, action.result)
        else:
            self._pending[op] = pending
            self._submit(action)

    def _is_counted(self, handler: Handler, kind: str, body: Any) -> bool:
        if handler.batched or handler.kept:
            return False
        if kind == "check_future_request" and body.future_handle in self._scope.deletions:
            self._scope.deletions.discard(body.future_handle)
            return False
        return True

    def _refuse(self, op: int, pending: _Pending, failure: Failure) -> None:
        # The client does not wait for these responses: what it asked for has to be an error.
        made = pending.handler.made(pending.body)
        if not made or not self._scope.view.devices:
            self._respond(op, pending, failure)
            return
        self._pending[op] = pending._replace(refused=failure)
        nowhere = ArraySpec("token", (), Sharding((self._scope.view.devices[0].id,)))
        self._submit(
            MakeErrors(
                session=self.id,
                op=op,
                failure=failure,
                specs=(nowhere,) * len(made),
                results=made,
            )
        )

    # --- Responses ----------------------------------------------------------------------------

    def deliver(self, op: int, result: Result) -> None:
        """Answer a request."""
        if self._closed:
            return
        pending = self._pending.pop(op)
        self._respond(op, pending, result if pending.refused is None else pending.refused)

    def _respond(self, op: int, pending: _Pending, result: Result) -> None:
        if pending.waited and result != _NO_NEWS:
            self._encode(op, pending, result)
            return
        self._acknowledgements.append((op, pending, result))
        if len(self._acknowledgements) == 1:
            asyncio.get_running_loop().call_later(_PATIENCE, self.acknowledge)
        elif len(self._acknowledgements) == _GATHERED:
            self.acknowledge()

    def acknowledge(self) -> None:
        """Send the responses that were gathered."""
        for op, pending, result in self._acknowledgements:
            self._encode(op, pending, result)
        self._acknowledgements.clear()

    def _encode(self, op: int, pending: _Pending, result: Result) -> None:
        response = pb.IfrtResponse()
        if isinstance(result, Failure) and not pending.handler.tells_failure:
            self._fail(response, result)
        else:
            try:
                if pending.handler.encode is None:
                    getattr(response, pending.response).SetInParent()
                else:
                    pending.handler.encode(self._scope, pending.body, result, response)
            except Refused as refused:
                response.Clear()
                self._fail(response, refused.failure)
        if pending.handler.kept:
            response.response_metadata.seq_num = _OUT_OF_THE_ROW
        self._send(op, pending.context, response, pending.counted)

    def _reject(self, op: int, context: int, refused: Refused) -> None:
        response = pb.IfrtResponse()
        self._fail(response, refused.failure)
        self._send(op, context, response, counted=False)

    def _fail(self, response: pb.IfrtResponse, failure: Failure) -> None:
        self.refusals += 1
        response.response_metadata.status.CopyFrom(status(failure))

    def _send(self, op: int, context: int, response: pb.IfrtResponse, counted: bool) -> None:
        metadata = response.response_metadata
        metadata.op_id = op
        if context:
            self._contexts.append(context)
        if counted and response.WhichOneof("response") is not None:
            metadata.seq_num = self._next_seq_num
            self._next_seq_num += 1
            if self._contexts:
                metadata.destroyed_user_context_ids.extend(self._contexts)
                self._contexts.clear()
        self._write(response.SerializeToString())

    # --- The end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Free everything, and tell the controller. The stream has ended."""
        if self._closed:
            return
        self._closed = True
        self._pending.clear()
        self._acknowledgements.clear()
        self.buffers.close()
        self._submit(Close(self.id))
