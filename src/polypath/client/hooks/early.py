"""Who waits for each program's results asks about them with the program itself.

A thread that waits for what it has just started sends two requests, each of which wakes the head and a worker: to run
the program, and to be told of its end. After a wait, this puts the number of a question where jaxlib sends the
thread's stream with every execution (`polypath.notices.stream_of`): the head asks the workers with the next program.
If that is what the thread waits for next, its answer is under way already.

An answer must not be taken for another execution's, so what is recorded here has to be the first execution that was
sent with the number:

- JAX's C++ calls a hook when it has started a program. Ours records the first; until it has, no byte code runs, so
  no handler of a signal can raise between a start and its record.
- What Python starts goes through `execute_sharded`, which takes the number back before.
- The head asks for the first execution with a number only.

What was recorded, arguments and results, lives until the thread waits again or starts its next program.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import threading
from collections.abc import Generator, Sequence
from typing import Any, Final

import jax
from jax._src import api, lib

from polypath.client.hooks.cluster import overlay, replace
from polypath.client.notices import Question, Questions
from polypath.notices import MOST_RESULTS, stream_of

_lib: Any = lib
_jax: Any = _lib._jax
_slot: Any = getattr(api, "_post_hook_state", None)
"""What JAX calls after a program that its C++ has started: a thread's own, or else everybody's."""

_MOST_SKIPPED: Final = 63
_IS_DELETED: Final = operator.methodcaller("is_deleted")

_threads = itertools.count()
_early: Early | None = None


def install(questions: Questions | None) -> Early | None:
    """Ask with programs from now on; None where this jaxlib cannot, or there is nobody to ask."""
    global _early
    if _early is not None:
        _early.withdraw()
    if _slot is None or not hasattr(_jax, "set_execution_stream_id"):
        return None
    _early = None if questions is None else Early(questions)
    replace(_lib.xla_client.LoadedExecutable, "execute_sharded", _execute_sharded)
    # For jax_debug_nans, which is to see each program.
    overlay(api, "_post_hook_state", set_global=_setting(_slot.set_global), set_local=_setting(_slot.set_local))
    return _early


def _execute_sharded(original: Any) -> Any:
    @functools.wraps(original)  # What it takes is told by its text alone.
    def execute_sharded(self: Any, *args: Any, **options: Any) -> Any:
        if _early is not None:
            _early.withdraw()
        return original(self, *args, **options)

    return execute_sharded


def _setting(original: Any) -> Any:
    def set_hook(hook: Any) -> None:
        if _early is not None:
            _early.withdraw()
        original(hook)

    return set_hook


class _Record(Exception):
    """Keeps what it is called with in `args`."""

    __call__ = BaseException.__init__


class _Hook(itertools.chain[Any]):
    """Hands each call to the next of these callables."""

    __call__ = property(next)


class Early(threading.local):
    """Each thread's question about the program that it starts next."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._thread = next(_threads)
        self._question: Question | None = None
        self._elements: int | None = None
        """The result whose elements it asks for."""
        self._read = 0
        """Which result of its program was read last."""
        self._record = _Record()
        self._others: Any = None
        """The hook that the thread had, or what stands for none."""
        self._pause = self._skip = 0
        """So many waits ask for themselves after a question that went with the wrong program; and how many still."""

    def ask(self, *, elements: bool = False) -> None:
        """Ask about the end of this thread's next program, or for the `elements` of the result that was read last."""
        result = self._read if elements and self._read < MOST_RESULTS else None
        if self._question is not None:
            if self._elements == result:
                return
            self.withdraw()
        if self._skip:
            self._skip -= 1
        elif _slot.value is None and (question := self._questions.ask()) is not None:
            self._question, self._elements, self._record = question, result, _Record()
            hook = _Hook([self._record], itertools.repeat(self._another))
            self._others = _slot.get_local()
            # In this order: what is recorded was sent with the number.
            _jax.set_execution_stream_id(stream_of(self._thread, question.number, result))
            _slot.set_local(hook)

    def take(self, arrays: Sequence[Any], *, elements: bool = False) -> Question | None:
        """The question that was asked about these arrays of one program; None if there is none.

        One that is answered with elements speaks for an array's first device only.
        """
        if self._question is None or not self._record.args:
            return None
        question, asked, results = self._question, self._elements, self._record.args[3]
        self._end()
        # What JAX's C++ gives is what the program gives, in the same order.
        given = jax.tree.leaves(results)
        if not _are_among(arrays, given):
            self._missed()
            return None
        self._pause = 0
        if any(map(_IS_DELETED, arrays)):
            return None
        if elements:
            self._read = list(map(id, given)).index(id(arrays[0]))
            return question if self._read == asked else None
        return question if asked is None or len(arrays[0].sharding.device_set) == 1 else None

    def asks_for(self, array: Any) -> bool:
        """Whether the question of this thread that is under way is for the elements of `array`."""
        if self._elements is None or not self._record.args:
            return False
        given = jax.tree.leaves(self._record.args[3])
        return self._elements < len(given) and given[self._elements] is array

    @contextlib.contextmanager
    def asking(self, question: Question) -> Generator[None]:
        """Ask this with the program that is run meanwhile by `execute_sharded`."""
        self.withdraw()
        _jax.set_execution_stream_id(stream_of(self._thread, question.number))
        try:
            yield
        finally:
            _jax.set_execution_stream_id(stream_of(self._thread))

    def withdraw(self) -> None:
        """Nothing is asked with the next program."""
        if self._question is not None:
            question, asked = self._question, bool(self._record.args)
            self._end()
            if not asked:
                self._questions.withdraw(question)

    def _another(self, *_: Any) -> None:
        """JAX calls this after the program that follows the one with the question: nobody has waited for that."""
        self._end()
        self._missed()

    def _missed(self) -> None:
        self._skip = self._pause = min(2 * self._pause + 1, _MOST_SKIPPED)

    def _end(self) -> None:
        self._question = None
        _jax.set_execution_stream_id(stream_of(self._thread))
        _slot.set_local(self._others)
        self._record = _Record()


def _are_among(arrays: Sequence[Any], given: Sequence[Any]) -> bool:
    if len(arrays) == len(given) and all(map(operator.is_, arrays, given)):
        return True  # As mostly, and for thousands much faster.
    known = set(map(id, given))
    return all(id(array) in known for array in arrays)
