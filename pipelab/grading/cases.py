"""The cases of a test: one that fails costs its part of the points, and the others still run.

    def test_makespan(student, student_seed, case):
        for rows, right in case.each(timelines(FIXED), timelines(student_seed)):
            with case:
                close(student.makespan(rows), right, "makespan")

Fixed cases come first and decide over the points, so that one file gets one grade whoever hands it
in. The student's own come on top, where all fixed ones are right.
"""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from . import checks
from .remote import NoResult, NotStarted

Case = TypeVar("Case")


class Cases:
    """What came of the cases of a test. failures: of those that failed."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self._count = 0

    def each(self, fixed: Iterable[Case], own: Iterable[Case] = ()) -> Iterator[Case]:
        """The cases in turn. own: what belongs to the student."""
        yield from fixed
        if not self.failures:
            yield from own

    def __enter__(self) -> None:
        self._count += 1
        checks.seen.clear()

    def __exit__(
        self, _: type | None, error: BaseException | None, __: TracebackType | None
    ) -> bool:
        """Note a failure, and go on; without a result of the student's code this ends."""
        if not isinstance(error, Exception) or isinstance(error, (NoResult, NotStarted)):
            return False
        error.shown = checks.seen[-1:]  # type: ignore[attr-defined]
        self.failures.append(error)
        return True

    @property
    def share(self) -> float:
        """The part of the cases that are right."""
        return 1 - len(self.failures) / self._count if self._count else 0.0

    def close(self) -> None:
        """At the end of the test: raise the first failure, if there is one."""
        if self.failures:
            raise self.failures[0]

    def __str__(self) -> str:
        """How many are right."""
        right = self._count - len(self.failures)
        return f"({right} of {self._count} cases are right.)" if self._count > 1 else ""
