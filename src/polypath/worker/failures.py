"""Exceptions as failures: what a program or a device reported, in absl's codes."""

from __future__ import annotations

import re
from typing import Final

from polypath.types import Code, Failure

_BROKEN_GROUP: Final = re.compile(r"\bGloo [\w-]+ failed: |\bremote process exited or there was a network error")
"""What XLA says of a collective that another host left: gloo's words and NCCL's."""

DELETED = Failure(Code.INVALID_ARGUMENT, "Array has been deleted.")


class WorkerFailure(Exception):
    """A failure on its way up to the handler that reports it."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(code, message)


class FailedValue(WorkerFailure):
    """A value is not there because what should have made it failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.code, failure.message)


def failure_of(error: BaseException) -> Failure:
    """The failure an exception stands for; XLA's begin with the name of their code.

    One that is ABORTED tells that the group of the island's workers is of no use any more: a host of it is gone.
    """
    if isinstance(error, WorkerFailure):
        return error.failure
    text = str(error) or type(error).__name__
    if _BROKEN_GROUP.search(text):
        return Failure(Code.ABORTED, f"A host of this island left a program of several hosts ({text}); run it again.")
    name, colon, rest = text.partition(": ")
    if colon and name in Code.__members__:
        return Failure(Code[name], rest)
    if isinstance(error, MemoryError):
        return Failure(Code.RESOURCE_EXHAUSTED, text)
    if isinstance(error, ValueError | TypeError):
        return Failure(Code.INVALID_ARGUMENT, text)
    return Failure(Code.INTERNAL, text)
