"""The table of requests: a name in the wire's `IfrtRequest.request` -> how it is served."""

from __future__ import annotations

from typing import Final

from polypath.frontend.requests import arrays, client, executables
from polypath.frontend.requests.base import Answer, Handler, Scope, known_handles, status

HANDLERS: Final[dict[str, Handler]] = {**client.HANDLERS, **arrays.HANDLERS, **executables.HANDLERS}

__all__ = ["HANDLERS", "Answer", "Handler", "Scope", "known_handles", "status"]
