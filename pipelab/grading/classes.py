"""A whole class: every submission graded with the teacher's tests.

One bad submission never spoils the rest.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

from ..errors import UsageError
from .exercise import Exercise
from .report import as_data, as_gradescope, as_junit, as_markdown, totals
from .results import Grade
from .room import Limits
from .supervisor import supervise


def grade_class(
    exercises: Sequence[Exercise],
    submissions: str | Path,
    out: str | Path,
    *,
    say: Callable[[str], None] = print,
    limits: Limits | None = None,
) -> Path:
    """Grade a folder of submissions.

    A student whose grade.json is there already is not graded again: delete it to have it done.

    Args:
        exercises: what is graded, with the teacher's tests.
        submissions: a folder per student, with the files in it or in folders named as the
            exercises.
        out: where a folder per student (results.json for Gradescope, grade.json, junit.xml,
            feedback.md) and the grade book grades.csv are written.
        say: told how far it has come.
        limits: of one test.

    Returns:
        The path of the grade book.

    Raises:
        UsageError: there is no submission.
    """
    students = sorted(path for path in Path(submissions).iterdir() if path.is_dir())
    if not students:
        raise UsageError(f"There is no submission in {submissions}: it needs a folder per student.")
    out = Path(out)
    rows = []
    for number, folder in enumerate(students, 1):
        place = out / folder.name
        done = place / "grade.json"
        if done.exists():
            grades = _read(done)
            say(f"{number}/{len(students)} {folder.name}: graded before")
        else:
            grades = [_one(exercise, folder, limits) for exercise in exercises]
            place.mkdir(parents=True, exist_ok=True)
            _write(place / "results.json", json.dumps(as_gradescope(grades), indent=1))
            _write(place / "junit.xml", as_junit(grades))
            _write(place / "feedback.md", as_markdown(grades))
            # Last, for it says that the student is done.
            _write(done, json.dumps(as_data(grades), indent=1))
            score, points = totals(grades)
            say(f"{number}/{len(students)} {folder.name}: {score:g} of {points:g}")
        rows.append((folder.name, grades))
    book = out / "grades.csv"
    _write(book, grade_book(rows))
    return book


def grade_book(rows: Sequence[tuple[str, Sequence[Grade]]]) -> str:
    """The grade book as CSV.

    A row per student: the score of each exercise, the total, and what was not all right.
    """
    everything = chain.from_iterable(grades for _, grades in rows)
    names = list(dict.fromkeys(grade.exercise for grade in everything))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", *names, "total", "of", "status"])
    for student, grades in rows:
        scores = {grade.exercise: grade for grade in grades}
        total, points = totals(grades)
        statuses = [
            f"{grade.exercise}: {grade.status}" for grade in grades if grade.status != "passed"
        ]
        cells = []
        for name in names:
            cells.append(f"{scores[name].score:g}" if name in scores else "")
        writer.writerow([student, *cells, f"{total:g}", f"{points:g}", "; ".join(statuses) or "ok"])
    return text.getvalue()


def _one(exercise: Exercise, folder: Path, limits: Limits | None) -> Grade:
    place = folder / exercise.name if (folder / exercise.name).is_dir() else folder
    try:
        return supervise(exercise, submission=place, student=folder.name, limits=limits)
    except Exception as error:  # whatever it is, the next student's turn comes
        note = f"grading failed: {type(error).__name__}: {error}"
        return Grade(exercise.name, exercise.title, note=note)


def _read(path: Path) -> list[Grade]:
    data = json.loads(path.read_text(encoding="utf-8"))
    return [Grade.from_dict(grade) for grade in data["exercises"]]


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
