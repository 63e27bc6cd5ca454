"""Questions that workers answer by a pipe: every waiter gets its own answer, whoever reads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polypath.client.notices import Question, Questions
from polypath.messages import MOST_ELEMENTS, MOST_QUESTIONS
from polypath.notices import NAME, Writer


@pytest.fixture
def questions(tmp_path: Path) -> Questions:
    return Questions(tmp_path)


@pytest.fixture
def writer(questions: Questions, tmp_path: Path) -> Writer:
    return Writer(str(tmp_path / NAME))


def ask(questions: Questions) -> Question:
    question = questions.ask()
    assert question is not None
    return question


def waiting(count: int, questions: Questions) -> None:
    """Return once so many threads wait: one reads, the others sleep."""
    private = questions._sleeping  # pyright: ignore[reportPrivateUsage]
    while len(private) < count - 1:
        os.sched_yield()


def test_an_answer_is_the_questions_own(questions: Questions, writer: Writer) -> None:
    first, second = ask(questions), ask(questions)
    writer.tell(second.number, elements=b"two")
    writer.tell(first.number, elements=b"one")
    assert questions.wait(first) == b"one"
    assert questions.wait(second) == b"two"


def test_all_that_are_to_tell_have_told(questions: Questions, writer: Writer) -> None:
    question = ask(questions)
    writer.tell(question.number, 3)
    writer.tell(question.number, 3)
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(questions.wait, question)
        assert not found.done()
        writer.tell(question.number, 3)
        assert found.result() == b""


def test_one_that_does_not_answer_is_enough(questions: Questions, writer: Writer) -> None:
    question = ask(questions)
    writer.tell(question.number, 3)
    writer.tell(question.number, answered=False)
    writer.tell(question.number, answered=False)
    assert questions.wait(question) is None


def test_who_sleeps_goes_on_when_who_read_is_done(questions: Questions, writer: Writer) -> None:
    asked = [ask(questions) for _ in range(16)]
    with ThreadPoolExecutor(len(asked)) as threads:
        found = [threads.submit(questions.wait, question) for question in asked]
        waiting(len(asked), questions)
        for question in asked:  # One after another: whoever reads is done while others still sleep.
            writer.tell(question.number, elements=str(question.number).encode())
        assert [each.result() for each in found] == [str(question.number).encode() for question in asked]


def test_many_threads_and_many_questions(questions: Questions, writer: Writer) -> None:
    def work(_: int) -> None:
        for _ in range(300):
            question = ask(questions)
            writer.tell(question.number, elements=question.number.to_bytes(8, "little") * (question.number % 500))
            found = questions.wait(question)
            assert found == question.number.to_bytes(8, "little") * (question.number % 500)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))


def test_a_notice_that_nobody_waits_for_disturbs_nobody(questions: Questions, writer: Writer) -> None:
    old = ask(questions)
    writer.tell(old.number, answered=False)
    writer.tell(old.number, elements=b"late")
    writer.tell(77 * MOST_QUESTIONS)
    question = ask(questions)
    writer.tell(question.number, elements=b"new")
    assert questions.wait(question) == b"new"
    assert questions.wait(old) is None


def test_answers_to_all_that_may_be_open_have_room(questions: Questions, writer: Writer) -> None:
    asked: list[Question] = []
    while (question := questions.ask()) is not None:
        asked.append(question)
    assert 8 <= len(asked) < MOST_QUESTIONS
    for question in asked:
        writer.tell(question.number, elements=bytes(MOST_ELEMENTS))
    assert all(questions.wait(question) == bytes(MOST_ELEMENTS) for question in asked)
    assert questions.ask() is not None


@pytest.mark.parametrize("threads", [1, 3])
def test_the_end_is_told_to_all_who_wait(questions: Questions, threads: int) -> None:
    asked = [ask(questions) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        found = [pool.submit(questions.wait, question) for question in asked]
        waiting(threads, questions)
        questions.close()
        assert [each.result() for each in found] == [None] * threads
    assert questions.ask() is None


def test_a_waiter_that_is_interrupted_leaves_the_others_their_answers(questions: Questions, writer: Writer) -> None:
    interrupted, question = ask(questions), ask(questions)
    began = threading.Event()
    read: Callable[[], object] = questions._reader.read  # pyright: ignore[reportPrivateUsage]

    def fail() -> object:
        began.set()
        waiting(2, questions)
        questions._reader.read = read  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
        raise KeyboardInterrupt

    questions._reader.read = fail  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(questions.wait, interrupted)
        began.wait()
        second = threads.submit(questions.wait, question)
        assert isinstance(first.exception(), KeyboardInterrupt)
        writer.tell(interrupted.number)
        writer.tell(question.number, elements=b"here")
        assert second.result() == b"here"


def test_a_pipe_whose_reader_is_gone_is_told(questions: Questions, writer: Writer, tmp_path: Path) -> None:
    question = ask(questions)
    questions.close()
    with pytest.raises(BrokenPipeError):
        writer.tell(question.number)
    with pytest.raises(OSError, match="No such device"):
        Writer(str(tmp_path / NAME))
    assert questions.wait(question) is None
