"""What a grading found: a result per test, summed to a grade."""

import hashlib
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from .exercise import Exercise

STATUSES = (
    "passed",
    "partial",
    "failed",
    "not started",
    "missing",
    "cannot be read",
    "timed out",
    "ended the process",
    "tampered",
    "error",
)
"""Of a test and of an exercise. "error": the grading did not take place, which is not a grade."""
WORST = ("error", "tampered", "missing", "cannot be read", "timed out", "ended the process")
NOT_GRADED = "the grading did not take place"


@dataclass
class Result:
    """One test, with its score.

    ``status`` is one of STATUSES. ``message`` is what a student needs to read, if anything.
    ``schedule`` is the one that failed it, as CSV, and ``expected`` the right one, where there is
    just one.
    """

    test: str
    title: str
    points: float
    score: float = 0.0
    status: str = "error"
    message: str = ""
    seconds: float = 0.0
    schedule: str = ""
    expected: str = ""


@dataclass
class Grade:
    """One exercise of one student.

    ``note`` is about all of it, such as why it did not take place; ``output`` is the end of what
    was printed; ``confined`` is False where the student's code ran without a sandbox. ``by_hand``
    are points that a teacher gives in place of those that the tests found, and ``comment`` is the
    teacher's.
    """

    exercise: str
    title: str
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""
    output: str = ""
    confined: bool = True
    by_hand: float | None = None
    comment: str = ""

    @property
    def points(self) -> float:
        """The points that there are."""
        return sum(result.points for result in self.results)

    @property
    def score(self) -> float:
        """The points that were reached."""
        if self.by_hand is not None:
            return self.by_hand
        return round(sum(result.score for result in self.results), 6)

    @property
    def status(self) -> str:
        """One of STATUSES for all tests: the worst that happened, else how many passed."""
        statuses = {result.status for result in self.results} or {"error"}
        for status in WORST:
            if status in statuses:
                return status
        if len(statuses) == 1:
            return statuses.pop()
        return "partial" if self.score else "failed"

    def to_dict(self) -> dict[str, Any]:
        """The grade as `pipelab grade --json` prints it."""
        data = asdict(self)
        return {
            "exercise": data["exercise"],
            "title": data["title"],
            "score": self.score,
            "points": self.points,
            "status": self.status,
            "note": self.note,
            "confined": self.confined,
            "seconds": round(self.seconds, 3),
            "tests": data["results"],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Grade":
        """The grade that `to_dict` wrote."""
        tests = [Result(**test) for test in data["tests"]]
        return cls(
            data["exercise"],
            data["title"],
            tests,
            data["seconds"],
            data["note"],
            confined=data["confined"],
        )


def seed_of(student: str) -> int:
    """The number that belongs to a student's id; 0 for none."""
    if not student:
        return 0
    return int.from_bytes(hashlib.sha256(os.fsencode(student)).digest()[:6], "big")


def ungraded(exercise: Exercise, status: str, message: str, note: str = "") -> Grade:
    """The grade of an exercise none of whose tests ran: no points, of those that there are."""
    results = [
        Result(name, title, points, status=status, message=message)
        for name, title, points in exercise.worth()
    ]
    return Grade(exercise.name, exercise.title, results, note=note)


def with_points(grade: Grade, exercise: Exercise) -> Grade:
    """The grade; where not even the tests were found, with the points that there are."""
    return grade if grade.results else ungraded(exercise, "error", NOT_GRADED, grade.note)
