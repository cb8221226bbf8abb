"""What a grading found: a result per test, summed to a grade."""

from dataclasses import asdict, dataclass, field
from typing import Any

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


@dataclass
class Result:
    """One test, with its score.

    ``status`` is one of STATUSES. ``message`` is what a student needs to read, if anything.
    ``schedule`` is the one that a failed test looked at last, as CSV.
    """

    test: str
    title: str
    points: float
    score: float = 0.0
    status: str = "error"
    message: str = ""
    seconds: float = 0.0
    schedule: str = ""


@dataclass
class Grade:
    """One exercise of one student.

    ``note`` is about all of it, such as why it did not take place; ``output`` is the end of what
    was printed; ``confined`` is False where the student's code ran without a sandbox.
    """

    exercise: str
    title: str
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""
    output: str = ""
    confined: bool = True

    @property
    def points(self) -> float:
        """The points that there are."""
        return sum(result.points for result in self.results)

    @property
    def score(self) -> float:
        """The points that were reached."""
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
