"""The grade book, the tables that Canvas and Moodle import, and what a teacher adds by hand.

In: Records. Out: grades.csv, canvas.csv, moodle.csv. ``by_hand.csv`` goes the other way: points and
comments that a teacher writes there stay, however often the class is graded.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import UsageError
from .records import Record
from .report import totals
from .tables import cells, read_cells, write_whole

BY_HAND = "by_hand.csv"
HEADINGS = ["student", "exercise", "points", "comment"]


def add_by_hand(records: Sequence[Record], out: Path, say: Callable[[str], None]) -> None:
    """Put the teacher's points and comments into the grades; make the empty table if need be.

    Raises:
        UsageError: a cell of points is no number.
    """
    path = out / BY_HAND
    if not path.exists():
        write_whole(path, cells([HEADINGS]))
    known = {record.student.key: record for record in records}
    for number, row in enumerate(read_cells(path)[1:], 2):
        student, exercise, points, comment = (*row, "", "", "", "")[:4]
        record = known.get(student.strip())
        grades = [] if record is None else list(record.grades.values())
        wanted = exercise.strip()
        chosen = [g for g in grades if g.exercise in (wanted,) or g.exercise[:2] == wanted.zfill(2)]
        if not chosen:
            say(f"{path}, line {number}: there is no {student} {exercise}, so it says nothing")
            continue
        chosen[0].comment = comment.strip()
        if points.strip():
            chosen[0].by_hand = _number(points, path, number)


def _number(text: str, path: Path, line: int) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise UsageError(
            f"{path}, line {line}: {text!r} is no number. Its third column is the points that "
            "count in place of those of the tests; leave it empty for a comment alone."
        ) from None


def status_of(record: Record) -> str:
    """What was not all right, by exercise; "ok" if all was."""
    grades = record.grades.values()
    bad = [f"{grade.exercise}: {grade.status}" for grade in grades if grade.status != "passed"]
    bad += [] if record.student.listed else ["not on the roster"]
    bad += [] if all(grade.confined for grade in grades) else ["without a sandbox"]
    return "; ".join(bad) or "ok"


def grade_book(records: Sequence[Record]) -> str:
    """A row per student: the score of each exercise, the total, and what was not all right."""
    names = sorted({name for record in records for name in record.grades})
    who = [
        what
        for what in ("id", "name", "email")
        if any(getattr(record.student, what) not in ("", record.student.key) for record in records)
    ]
    rows: list[list[object]] = [["student", *who, *names, "total", "of", "status"]]
    for record in records:
        scores = [record.grades[name].score if name in record.grades else "" for name in names]
        about = [getattr(record.student, what) for what in who]
        total, points = totals(list(record.grades.values()))
        rows.append(
            [record.student.key, *about, *scores, float(total), float(points), status_of(record)]
        )
    return cells(rows)


def for_canvas(records: Sequence[Record]) -> str:
    """The table that Canvas's grade book imports: a column per exercise, its points on top."""
    points, titles = {}, {}
    for record in records:
        for name, grade in record.grades.items():
            points[name], titles[name] = float(grade.points), f"{name[:2]} {grade.title}"
    names = sorted(points)
    headings = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    rows: list[list[object]] = [[*headings, *(titles[name] for name in names)]]
    rows.append(["    Points Possible", "", "", "", "", *(points[name] for name in names)])
    for record in records:
        student = record.student
        scores = [record.grades[name].score if name in record.grades else "" for name in names]
        about = [student.name or student.key, student.platform, student.id, student.email, ""]
        rows.append([*about, *scores])
    return cells(rows)


def for_moodle(records: Sequence[Record]) -> str:
    """Moodle's grading worksheet."""
    headings = ["Identifier", "Full name", "Email address", "Grade", "Maximum Grade"]
    rows: list[list[object]] = [[*headings, "Feedback comments"]]
    for record in records:
        student, grades = record.student, list(record.grades.values())
        total, points = totals(grades)
        number = f"Participant {student.platform}" if student.platform else student.id
        about = [number, student.name or student.key, student.email]
        said = " ".join(f"{g.exercise[:2]}: {g.comment}" for g in grades if g.comment)
        rows.append([*about, float(total), float(points), said or status_of(record)])
    return cells(rows)
