"""What a grading found: a result per test, summed to a grade."""

from dataclasses import asdict, dataclass, field
from typing import Any

STATUSES = ("passed", "partial", "failed", "not started", "timeout", "crashed", "error")


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

    ``note`` is about all of it, such as a file that is missing; ``output`` is the end of what the
    student's code printed.
    """

    exercise: str
    title: str
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""
    output: str = ""

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
        """One word for all tests: the worst that happened to any.

        That is "crashed", "timeout" or "error"; "not started" where no test was started, else "ok".
        """
        statuses = {result.status for result in self.results}
        if statuses == {"not started"}:
            return "not started"
        bad = ("crashed", "timeout", "error")
        return next((status for status in bad if status in statuses), "ok")

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
            "seconds": round(self.seconds, 3),
            "tests": data["results"],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Grade":
        """The grade that `to_dict` wrote."""
        tests = [Result(**test) for test in data["tests"]]
        return cls(data["exercise"], data["title"], tests, data["seconds"], data["note"])
