"""What was written and is not computed yet: how storages get back what they held should the program fail.

A change is numbered by the nodes that had been added before it. A failure at one node undoes the changes from there
on, as if the line that called for it had raised; what came before goes on waiting.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Generator, Iterable
from typing import Any, NamedTuple, Protocol

from polypath.torch.programs import Ref


class Holder(Protocol):
    """A storage's buffer, as far as it is known here."""

    ref: Ref

    def restore(self, form: Any, ref: Ref) -> None:
        """Hold this value, in this form."""
        ...


class _Change(NamedTuple):
    number: int
    holder: weakref.ref[Any]
    form: Any
    ref: Ref
    """What was held before."""


class Changes:
    """In the order in which they were made."""

    def __init__(self) -> None:
        self._made: list[_Change] = []

    def add(self, number: int, holder: Holder, form: Any, ref: Ref) -> None:
        """A storage that held `ref` is about to hold what a node computes, of which `number` were added before."""
        self._made.append(_Change(number, weakref.ref(holder), form, ref))

    def undo(self, first: int) -> int:
        """Have storages hold what they did before node `first` was added; how many cannot, as a program took it."""
        lost: set[int] = set()
        while self._made and self._made[-1].number >= first:
            change = self._made.pop()
            holder: Holder | None = change.holder()
            if holder is None or holder.ref.array is not None:
                continue  # What was written since, and is no result of a program, stays.
            if _is_gone(change.ref):
                lost.add(id(holder))
            else:
                holder.restore(change.form, change.ref)
        return len(lost)

    def undo_all(self, refs: set[int]) -> None:
        """Have storages that hold one of these values, by its id, hold what they did before."""
        for change in reversed(self._made):
            holder: Holder | None = change.holder()
            if holder is not None and id(holder.ref) in refs and not _is_gone(change.ref):
                holder.restore(change.form, change.ref)

    def settle(self, last: int) -> None:
        """The nodes up to number `last` are computed, or nobody needs them: nothing of that is undone any more."""
        if not self._made or self._made[-1].number <= last:
            self._made.clear()
        else:
            self._made = [change for change in self._made if change.number > last]

    def forget_unread(self, last: int, arguments: Iterable[Ref]) -> None:
        """A program of the nodes up to `last` is about to start.

        It must not find the memory taken by values that were overwritten and not even read.
        """
        if self._made:
            read = {id(ref) for ref in arguments}
            self._made = [
                change
                for change in self._made
                if change.number > last or change.ref.array is None or id(change.ref) in read
            ]

    @contextlib.contextmanager
    def held(self, last: int) -> Generator[None]:
        """A scope in which what may yet be undone after node `last` is computed, and not donated."""
        refs = [change.ref for change in self._made if change.number > last and change.holder() is not None]
        with hold(refs):
            yield


@contextlib.contextmanager
def hold(refs: Iterable[Ref]) -> Generator[None]:
    """A scope in which programs give these values, and do not donate them."""
    held: list[Ref] = []
    try:
        for ref in refs:
            held.append(ref)
            ref.holders += 1
        yield
    finally:
        for ref in held:
            ref.holders -= 1


def _is_gone(ref: Ref) -> bool:
    """Whether a value's memory was given to a program."""
    return ref.array is not None and getattr(ref.array, "is_deleted", bool)()


chain = itertools.chain.from_iterable
