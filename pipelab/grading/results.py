"""What a grading found: a result per test, summed to a grade."""

from dataclasses import asdict, dataclass, field

STATUSES = ("passed", "partial", "failed", "not started", "timeout", "crashed", "error")


@dataclass
class Result:
    """One test. score: of its points. status: one of STATUSES. message: what a student needs to
    read, or nothing. schedule: in CSV, the one that a failed test has looked at last."""

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
    """One exercise of one student. note: about all of it, such as a file that is missing."""

    exercise: str
    title: str
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""
    output: str = ""

    @property
    def points(self) -> float:
        return sum(result.points for result in self.results)

    @property
    def score(self) -> float:
        return round(sum(result.score for result in self.results), 6)

    @property
    def status(self) -> str:
        """ok; not started where nothing is; else the worst that happened to a test (timeout,
        crashed, error).
        """
        statuses = {result.status for result in self.results}
        if statuses and statuses <= {"not started"}:
            return "not started"
        return next(
            (status for status in ("crashed", "timeout", "error") if status in statuses), "ok"
        )

    def to_dict(self) -> dict:
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
