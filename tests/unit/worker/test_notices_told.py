"""A worker's ends of clients' pipes: an answer reaches the client whenever its program is dropped."""

from __future__ import annotations

from pathlib import Path

from polypath.messages import MOST_ELEMENTS, MOST_QUESTIONS, Notify
from polypath.notices import NAME, Notice, Reader
from polypath.types import Code, Failure
from polypath.worker.notices import Notices


def files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def question(folder: Path, number: int) -> Notify:
    return Notify(1, (2,), str(folder / NAME), number, 1)


def test_an_answer_after_the_program_was_dropped(tmp_path: Path) -> None:
    reader, notices = Reader(tmp_path, MOST_QUESTIONS), Notices()
    before = files()
    asked = [question(tmp_path, number) for number in (1, 2)]
    for each in asked:
        notices.open(each)
    notices.tell(asked[0], b"one")
    notices.close(1)
    notices.tell(asked[1], b"two")
    assert reader.read() == [Notice(1, 1, True, b"one"), Notice(2, 1, True, b"two")]
    notices.close(1)
    assert files() == before


def test_what_cannot_be_told_is_not_answered(tmp_path: Path) -> None:
    reader, notices = Reader(tmp_path, MOST_QUESTIONS), Notices()
    for number, outcome in enumerate((bytes(MOST_ELEMENTS + 1), Failure(Code.INTERNAL, "it broke")), 1):
        notices.tell(question(tmp_path, number), outcome)
    assert [(notice.number, notice.answered) for notice in reader.read()] == [(1, False), (2, False)]


def test_a_client_that_is_gone_hears_nothing(tmp_path: Path) -> None:
    reader, notices = Reader(tmp_path, MOST_QUESTIONS), Notices()
    notices.open(question(tmp_path, 1))
    reader.close()
    notices.tell(question(tmp_path, 1), b"")
    notices.open(question(tmp_path / "nowhere", 2))
    notices.tell(question(tmp_path / "nowhere", 2), b"")
