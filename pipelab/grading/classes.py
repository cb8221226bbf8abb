"""A whole class: every submission graded with the teacher's tests.

    students ─▶ a private copy each ─▶ workers, side by side ─▶ records ─▶ book, feedback, pages

One bad submission never spoils the rest. What was graded before, for the same files, tests and
version, is not graded again; whatever ends this, what is written is whole, and it can go on.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import UnknownName, UsageError
from . import answers
from .alike import pairs
from .book import add_by_hand, for_canvas, for_moodle, grade_book
from .collect import Collected, collect
from .exercise import Exercise
from .pages import class_page, feedback
from .records import Record, facts_of, hash_of_tests
from .report import HIDDEN, as_gradescope, as_junit, totals
from .results import Grade, ungraded
from .room import Limits
from .submissions import Student, anonymous, students
from .tables import write_whole
from .workers import Workers, cores, stopping

BOOK = "grades.csv"
GRACE_SECONDS = 3.0
"""After Ctrl-C, for the students whose turn it is: who is nearly done is kept."""


@dataclass(frozen=True)
class Wishes:
    """How a class is graded.

    roster: a CSV of all students. hidden: a folder of more tests. again: students to grade even if
    nothing has changed. jobs: students side by side; None takes the cores. anonymous: codes in
    place of names. guesses: whether guesses and goals have points. limits: of one test.
    """

    roster: Path | None = None
    hidden: Path | None = None
    again: tuple[str, ...] = ()
    jobs: int | None = None
    anonymous: bool = False
    guesses: bool = False
    limits: Limits = Limits()


@dataclass(frozen=True)
class Outcome:
    """Of a class. failed: the gradings that did not take place, which are no grades."""

    book: Path
    failed: tuple[str, ...]


def grade_class(
    exercises: Sequence[Exercise],
    submissions: str | Path,
    out: str | Path,
    *,
    wishes: Wishes | None = None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Grade a folder of submissions.

    Args:
        exercises: what is graded, with the teacher's tests.
        submissions: the folder of the class, as a platform hands it out, or a zip of it.
        out: where a folder per student (grade.json, results.json for Gradescope, junit.xml,
            feedback.md and .html), the tables and the page of the class are written.
        wishes: how.
        say: told how far it has come.

    Returns:
        The path of the grade book, and what could not be graded.

    Raises:
        UsageError: there is no submission, or the roster or a table cannot be read.
        UnknownName: ``again`` names nobody.
    """
    wishes, out = wishes or Wishes(), Path(out).resolve()
    apart = [out, exercises[0].tests.parents[1]]
    apart += [wishes.hidden.resolve()] if wishes.hidden else []
    everybody = students(Path(submissions).resolve(), wishes.roster, apart)
    if wishes.anonymous:
        everybody = anonymous(everybody, out / "anonymous.csv")
    _require(wishes.again, everybody)
    with (
        tempfile.TemporaryDirectory(prefix="pipelab-class-", ignore_cleanup_errors=True) as place,
        stopping(),
    ):
        grading = _Grading(exercises, out, wishes, Path(place))
        records = grading.all(everybody, say)
    add_by_hand(records, out, say)
    _write(records, exercises, out)
    failed = tuple(
        f"{record.student.key} {grade.exercise}"
        for record in records
        for grade in record.grades.values()
        if grade.status == "error"
    )
    return Outcome(out / BOOK, failed)


def _require(again: Sequence[str], everybody: Sequence[Student]) -> None:
    known = {name for student in everybody for name in (student.key, student.id, student.name)}
    for name in again:
        if name not in known:
            raise UnknownName("student", name, [student.key for student in everybody])


class _Grading:
    """The gradings of one run."""

    def __init__(
        self, exercises: Sequence[Exercise], out: Path, wishes: Wishes, place: Path
    ) -> None:
        self._out, self._wishes, self._place = out, wishes, place
        self._workers = Workers(wishes.limits)
        hidden = hidden_tests(exercises, wishes.hidden, place / "hidden")
        self._exercises = [(one, hidden.get(one.name)) for one in exercises]
        self._tests = {one.name: hash_of_tests(one, more) for one, more in self._exercises}

    def all(self, everybody: Sequence[Student], say: Callable[[str], None]) -> list[Record]:
        """Grade everybody, side by side."""
        jobs = self._wishes.jobs or cores()
        pool = ThreadPoolExecutor(jobs)
        begin, done, fresh = time.monotonic(), 0, 0
        waiting = [pool.submit(self._one, *each) for each in enumerate(everybody)]
        try:
            for future in as_completed(waiting):
                record, new = future.result()
                done, fresh = done + 1, fresh + new
                score, points = totals(list(record.grades.values()))
                how = f"{score:g} of {points:g}" if new else "graded before"
                left = _estimate(time.monotonic() - begin, fresh, len(everybody) - done)
                say(f"{done}/{len(everybody)} {record.student.key}: {how}{left}")
            return [future.result()[0] for future in waiting]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            try:
                wait(waiting, GRACE_SECONDS)
            finally:
                self._workers.close()
                pool.shutdown()

    def _one(self, number: int, student: Student) -> tuple[Record, bool]:
        """Grade a student. Returns what is known, and whether anything was graded now."""
        record, place = Record.read(student, self._out), self._place / str(number)
        again = {student.key, student.id, student.name} & set(self._wishes.again)
        new = False
        for exercise, hidden in self._exercises:
            collected = _collected(exercise, student, place / exercise.name)
            record.collected[exercise.name] = collected
            facts = facts_of(collected, self._tests[exercise.name], student)
            if again or not record.holds(exercise.name, facts):
                record.take(self._grade(exercise, hidden, record), facts)
                new = True
        new = self._guesses(record) or new
        if new:
            record.write(self._out)
        shutil.rmtree(place, ignore_errors=True)
        return record, new

    def _guesses(self, record: Record) -> bool:
        """Give points for guesses and goals, or take them away; whether that changed something."""
        before = record.grades.pop(answers.EXERCISE, None)
        if not self._wishes.guesses:
            return before is not None
        grade = answers.as_grade(answers.handed_in(record.student))
        record.take(grade, {"version": __version__})
        return before is None or before.score != grade.score

    def _grade(self, exercise: Exercise, hidden: Exercise | None, record: Record) -> Grade:
        """Grade an exercise of one student; an error costs this grading only."""
        collected, student = record.collected[exercise.name], record.student
        both = [exercise] if hidden is None else [exercise, hidden]
        if collected.problem is not None:
            grades = [ungraded(one, *collected.problem) for one in both]
        else:
            grades = [self._workers.grade(one, collected.folder, student.id) for one in both]
        grade, *more = grades
        for result in (result for other in more for result in other.results):
            grade.results.append(replace(result, test=HIDDEN + result.test))
        grade.seconds = sum(each.seconds for each in grades)
        grade.confined = all(each.confined for each in grades)
        notes = (collected.note, *(each.note for each in grades))
        grade.note = "\n".join(dict.fromkeys(filter(None, notes)))
        return grade


def _collected(exercise: Exercise, student: Student, folder: Path) -> Collected:
    """What the student handed in; whatever is wrong with it costs this student only."""
    try:
        return collect(exercise, student.found, folder)
    except Exception as error:
        return Collected(folder, problem=("error", f"{type(error).__name__}: {error}"))


def _estimate(seconds: float, done: int, left: int) -> str:
    """How long the rest will take."""
    if not done or not left:
        return ""
    rest = seconds / done * left
    return f" (about {rest / 60:.0f} min left)" if rest > 90 else f" (about {rest:.0f} s left)"


def hidden_tests(
    chosen: Sequence[Exercise], folder: Path | None, copy: Path
) -> dict[str, Exercise]:
    """The hidden tests of each exercise that has some, in a copy with the same settings.

    Raises:
        UsageError: the folder holds none for these exercises.
    """
    if folder is None:
        return {}
    found = {}
    for exercise in chosen:
        tests = folder.resolve() / exercise.name / exercise.tests.name
        if tests.is_file():
            # By another name, or pytest would take them for the exercise's own module of tests.
            place = shutil.copytree(tests.parent, copy / f"hidden_{exercise.name}")
            found[exercise.name] = replace(exercise, tests=place / exercise.tests.name)
    if not found:
        example = chosen[0]
        raise UsageError(
            f"There are no hidden tests in {folder} for these exercises: they are files such as "
            f"{example.name}/{example.tests.name} there."
        )
    settings = chosen[0].tests.parents[1] / "pytest.ini"
    if settings.exists():
        shutil.copy(settings, copy)
    return found


def _answers(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What everybody guessed and reached."""
    return [answers.handed_in(record.student) for record in records]


def _write(records: Sequence[Record], chosen: Sequence[Exercise], out: Path) -> None:
    """Write what is for people and for platforms."""
    for record in records:
        place, grades = out / record.student.key, list(record.grades.values())
        text, page = feedback(record)
        write_whole(place / "feedback.md", text)
        write_whole(place / "feedback.html", page)
        write_whole(place / "junit.xml", as_junit(grades))
        write_whole(place / "results.json", json.dumps(as_gradescope(grades), indent=1))
    sources = [
        (name, record.student.key, collected.source)
        for record in records
        for name, collected in record.collected.items()
        if collected.source
    ]
    stubs = {one.name: one.file.read_text(encoding="utf-8") for one in chosen}
    write_whole(out / "class.html", class_page(records, pairs(sources, stubs), _answers(records)))
    write_whole(out / "canvas.csv", for_canvas(records))
    write_whole(out / "moodle.csv", for_moodle(records))
    write_whole(out / BOOK, grade_book(records))
