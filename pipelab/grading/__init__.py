"""Grading: a student's files, tests with points, and a fair result whatever the files do.

In: a folder of exercises, each with a stub and its tests, or a folder of submissions. Out: points
with reasons, as text, JSON, JUnit, Gradescope, Markdown and a grade book. Way of the data:

    exercise ▸ supervisor ▸ judge (pytest, plugin, checks, cases) ▸ results ▸ report
                              │ remote
                              ▼
               nursery ▸ room (the student's file) in its sandbox

    submissions ▸ collect ▸ workers (a judge each) ▸ records ▸ book, pages
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..course.table import Lesson, Task, lessons
    from .classes import Wishes, grade_class
    from .exercise import Exercise, exercises
    from .publish import autograder, handout
    from .results import Grade
    from .run import grade

__all__ = [
    "Exercise", "Grade", "Lesson", "Task", "Wishes",
    "autograder", "exercises", "grade", "grade_class", "handout", "lessons",
]  # fmt: skip

_LATE = {
    "Exercise": ".exercise",
    "exercises": ".exercise",
    "Lesson": "..course.table",
    "Task": "..course.table",
    "lessons": "..course.table",
    "Grade": ".results",
    "grade": ".run",
    "Wishes": ".classes",
    "grade_class": ".classes",
    "autograder": ".publish",
    "handout": ".publish",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'pipelab.grading' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATE[name], __name__), name)
    return value
