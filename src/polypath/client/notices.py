"""Questions that workers answer to this process itself.

Owns the pipe of the session's folder and the numbers of what is asked. Whoever waits reads the pipe, for all who
wait; so no other thread is woken on the way. What is asked, and how, is `hooks.waiting`'s.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from polypath.messages import MOST_QUESTIONS
from polypath.notices import QUESTIONS, Notice, Reader

_ROUNDS: Final = QUESTIONS // MOST_QUESTIONS


class Question:
    """One that is open."""

    __slots__ = ("answer", "awake", "number", "open", "told")

    def __init__(self, number: int) -> None:
        self.number = number
        self.open = True
        self.answer: bytes | None = None
        """None where nobody will answer."""
        self.told = 0
        self.awake: SimpleQueue[None] = SimpleQueue()


class Questions:
    """This process's, until `close()`.

    Raises:
        OSError: the folder can have no pipe.
    """

    def __init__(self, folder: Path) -> None:
        self._reader = Reader(folder, MOST_QUESTIONS)
        self._lock = threading.Lock()
        self._free = list(range(1, self._reader.most))
        self._round = random.randrange(_ROUNDS)  # No other cluster's number is one of ours.
        self._open: dict[int, Question] = {}
        self._arrived: deque[Notice] = deque()
        self._reading = False
        """Whether a thread reads, for itself and for those that sleep."""
        self._sleeping: set[Question] = set()
        self._closed = False

    def ask(self) -> Question | None:
        """A new question, whose number is to be asked then; None where too many are open."""
        with self._lock:
            if not self._free or self._closed:
                return None
            self._round = (self._round + 1) % _ROUNDS
            question = Question(self._round * MOST_QUESTIONS + self._free.pop())
            self._open[question.number] = question
            return question

    def withdraw(self, question: Question) -> None:
        """It was not asked."""
        with self._lock:
            self._end(question)

    def wait(self, question: Question) -> bytes | None:
        """What was told; None where nobody will answer."""
        try:
            while question.open:
                with self._lock:
                    reads, self._reading = not self._reading, True
                    if not reads and question.open:
                        self._sleeping.add(question)
                if reads:
                    self._read(question)
                elif question in self._sleeping:
                    question.awake.get()
        finally:
            with self._lock:
                self._sleeping.discard(question)
                self._wake_next()
        return question.answer

    def close(self) -> None:
        """Nobody will answer any more."""
        with self._lock:
            self._closed = True
            for question in list(self._open.values()):
                self._end(question)
            if self._reading:
                self._reader.wake()
            else:
                self._reader.close()

    def _read(self, question: Question) -> None:
        try:
            while True:
                while self._arrived:  # What an interrupted thread has read, too.
                    self._take(self._arrived.popleft())
                if not question.open:
                    return
                self._arrived.extend(self._reader.read())
        finally:
            with self._lock:
                self._reading = False
                if self._closed:
                    self._reader.close()

    def _wake_next(self) -> None:
        """Who has read is done: another goes on."""
        if not self._reading and self._sleeping:
            self._sleeping.pop().awake.put(None)

    def _take(self, notice: Notice) -> None:
        with self._lock:
            question = self._open.get(notice.number)
            if question is None:
                return  # Two told that nobody will answer, say.
            question.told += 1
            if not notice.answered:
                self._end(question)
            elif question.told == notice.of:
                question.answer = notice.elements
                self._end(question)

    def _end(self, question: Question) -> None:
        if self._open.pop(question.number, None) is None:
            return
        question.open = False
        self._free.append(question.number % MOST_QUESTIONS)
        if question in self._sleeping:
            self._sleeping.discard(question)
            question.awake.put(None)
