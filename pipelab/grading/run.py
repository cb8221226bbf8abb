"""``pipelab.grade``: exercises graded from a notebook, in processes beside its kernel."""

import json
import subprocess
import sys
from html import escape
from itertools import chain
from pathlib import Path

from ..errors import PipelabError, UsageError
from ..schedule import Schedule
from ..simulator import simulate
from .exercise import nearest
from .results import Grade, Result


class Grades(list[Grade]):
    """Grades of exercises; as text, and in a notebook as HTML."""

    def __str__(self) -> str:
        from .report import as_text

        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The text, and under it the timeline of each schedule that failed a test."""
        results = chain.from_iterable(grade.results for grade in self)
        pictures = "".join(map(_picture, results))
        return f"<pre>{escape(str(self))}</pre>{pictures}"


def _picture(result: Result) -> str:
    """The timeline of the schedule that a test refused.

    Nothing where the schedule cannot run: there the message shows the place.
    """
    from ..plots import svg

    if not result.schedule:
        return ""
    try:
        timeline = simulate(Schedule.from_csv(result.schedule, name="yours"))
    except PipelabError:
        return ""
    return f"<p>{escape(result.title)}: your schedule</p>{svg(timeline)}"


def grade(*names: str, folder: str | Path | None = None, student: str | None = None) -> Grades:
    """Grade exercises: ``grade("06")`` or ``grade("one_f_one_b")``; without a name, all of them.

    The student's code runs in processes of its own.

    Args:
        names: numbers or names of exercises.
        folder: where the exercises are; without it, the nearest folder "exercises".
        student: an id that sizes and data may depend on.

    Returns:
        A grade per exercise; printed, the points with their reasons.

    Raises:
        UsageError: there is no such exercise; the text lists those that there are.
    """
    command = [sys.executable, "-m", "pipelab", "grade", *names, "--json"]
    command += ["--exercises", str(folder or nearest())]
    command += ["--student", student] if student else []
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    try:
        data = json.loads(done.stdout)
    except ValueError:
        raise UsageError(
            f"Grading ended with exit code {done.returncode}: {done.stderr.strip()[-2000:]}"
        ) from None
    if "error" in data:
        raise UsageError(data["error"])
    return Grades(map(Grade.from_dict, data["exercises"]))
