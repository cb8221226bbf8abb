"""What is remembered of a student's grading: the grades, and what they were given for.

In: grade.json of an earlier run. Out: which exercises need no grading again, and grade.json. A
grading that did not take place is none, and is always tried again.
"""

import datetime
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from .collect import Collected
from .exercise import Exercise
from .report import totals
from .results import Grade, seed_of
from .submissions import Student
from .tables import write_whole

NAME = "grade.json"


@dataclass
class Record:
    """A student's grades, by the exercise's name.

    facts: what each was given for: hashes of submission and tests, the version, and the rest.
    dates: when. collected: what was found this time.
    """

    student: Student
    grades: dict[str, Grade] = field(default_factory=dict)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    dates: dict[str, str] = field(default_factory=dict)
    collected: dict[str, Collected] = field(default_factory=dict)

    @classmethod
    def read(cls, student: Student, out: Path) -> "Record":
        """What an earlier run has written; an empty record where that is nothing."""
        record = cls(student)
        try:
            data = json.loads((out / student.key / NAME).read_text(encoding="utf-8"))
            for about in data["exercises"]:
                name = about["exercise"]
                record.grades[name] = Grade.from_dict(about)
                record.facts[name], record.dates[name] = about["facts"], about["graded"]
        except (OSError, ValueError, KeyError, TypeError):
            return cls(student)
        return record

    def holds(self, exercise: str, facts: dict[str, str]) -> bool:
        """Whether the exercise was graded under these facts."""
        grade = self.grades.get(exercise)
        return grade is not None and grade.status != "error" and self.facts[exercise] == facts

    def take(self, grade: Grade, facts: dict[str, str]) -> None:
        """Remember a grade."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.grades[grade.exercise] = grade
        self.facts[grade.exercise], self.dates[grade.exercise] = facts, now
        self.grades = dict(sorted(self.grades.items()))

    def write(self, out: Path) -> None:
        """Write grade.json."""
        score, points = totals(list(self.grades.values()))
        rows = [
            grade.to_dict() | {"facts": self.facts[name], "graded": self.dates[name]}
            for name, grade in self.grades.items()
        ]
        student = self.student
        about: dict[str, Any] = {"student": student.key, "id": student.id, "name": student.name}
        about |= {"email": student.email, "seed": seed_of(student.id), "version": __version__}
        data = about | {"score": score, "points": points, "exercises": rows}
        write_whole(out / student.key / NAME, json.dumps(data, indent=1))


def facts_of(collected: Collected, tests: str, student: Student) -> dict[str, str]:
    """What a grade depends on; tests: their hash."""
    return {
        "submission": collected.digest,
        "tests": tests,
        "version": __version__,
        "student": student.id,
    }


def hash_of_tests(exercise: Exercise, hidden: Exercise | None) -> str:
    """A hash of all that lies in the folders of an exercise and of its hidden tests."""
    total = hashlib.sha256()
    for one in filter(None, (exercise, hidden)):
        for path in sorted(one.tests.parent.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
