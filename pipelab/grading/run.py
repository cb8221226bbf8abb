"""``pipelab.grade``: exercises graded from a notebook, in processes beside its kernel."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from ..course.table import lessons
from ..errors import UsageError
from .exercise import exercises, nearest
from .results import Grade

SECONDS = 10
"""That a test may take: somebody waits for it."""
POINTS = "points.json"
"""In the folder of the exercises: what was reached last, by exercise."""


class Grades(list[Grade]):
    """Grades of exercises; as text, and in a notebook as HTML.

    so_far: the points of the course, and what is next.
    """

    so_far = ""

    def __str__(self) -> str:
        from .report import as_text

        return "\n".join(filter(None, [as_text(self), self.so_far]))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The same, with the schedule that failed a test beside the expected one, and links."""
        from .notebook import as_html

        return as_html(self, self.so_far)


def grade(*names: str, folder: str | Path | None = None, student: str | None = None) -> Grades:
    """Grade exercises: ``grade("06")`` or ``grade("one_f_one_b")``; without a name, all of them.

    The student's code runs in processes of its own, for at most 10 s a test. Which exercise is
    being graded is shown meanwhile.

    Args:
        names: numbers or names of exercises.
        folder: where the exercises are; without it, the nearest folder "exercises".
        student: an id that sizes and data may depend on.

    Returns:
        A grade per exercise; printed, the points with their reasons.

    Raises:
        UsageError: there is no such exercise; the text lists those that there are.
    """
    place = Path(folder or nearest())
    command = [sys.executable, "-m", "pipelab", "grade", *names, "--json"]
    command += ["--exercises", str(place), "--seconds", str(SECONDS)]
    command += ["--student", student] if student else []
    said = ""
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with tempfile.TemporaryFile("w+") as out, _line() as show:
        with subprocess.Popen(command, stdout=out, **streams) as process:
            try:
                for line in process.stderr or ():
                    said = (said + line)[-2000:]
                    show(line.strip())
            except BaseException:  # the kernel was interrupted
                process.terminate()
                raise
        out.seek(0)
        printed = out.read()
    try:
        data = json.loads(printed)
    except ValueError:
        raise UsageError(
            f"Grading ended with exit code {process.returncode}: {said.strip()}"
        ) from None
    if "error" in data:
        raise UsageError(data["error"])
    grades = Grades(map(Grade.from_dict, data["exercises"]))
    grades.so_far = so_far(grades, place)
    return grades


@contextlib.contextmanager
def _line() -> Iterator:
    """A line that shows what is going on: in a notebook, or on standard error of a terminal."""
    ipython = sys.modules.get("IPython")
    if ipython and getattr(ipython.get_ipython(), "kernel", None):
        from IPython.display import HTML, display

        handle = display(HTML(""), display_id=True)
        try:
            yield lambda text: handle.update(HTML(f"<i>{escape(text)}</i>"))
        finally:
            handle.update(HTML(""))
    elif sys.stderr.isatty():
        try:
            yield lambda text: print(text, end="\033[K\r", file=sys.stderr, flush=True)
        finally:
            print(end="\033[K", file=sys.stderr, flush=True)
    else:
        yield lambda _: None


def so_far(grades: list[Grade], folder: Path) -> str:
    """The points of all exercises graded in this folder so far, and what is next."""
    known = _known(folder)
    known |= {grade.exercise: grade.score for grade in grades if grade.status != "error"}
    with contextlib.suppress(OSError):  # a folder that cannot be written to
        (folder / POINTS).write_text(json.dumps(known, indent=1), encoding="utf-8")
    there = {one.name: sum(points for *_, points in one.worth()) for one in exercises(folder)}
    reached = sum(known.get(name, 0.0) for name in there)
    text = f"So far {reached:g} of {sum(there.values()):g} points."
    for grade in grades:
        for result in grade.results:
            if result.status != "passed":
                return f"{text} Next: {grade.title}, “{result.title}”."
    for name, points in there.items():
        if known.get(name, 0.0) < points:
            return f"{text} Next: {_named(name)}."
    return f"{text} That is all."


def _named(name: str) -> str:
    """An exercise, and the part of the course that it is about, if there is a course."""
    with contextlib.suppress(UsageError):
        for lesson in lessons():
            for task in lesson.exercises:
                if task.folder == name:
                    return (
                        f"exercise {task.number}, {task.title}; it is about notebook "
                        f"{lesson.number} ({lesson.title}), section “{task.section}”"
                    )
    return name


def _known(folder: Path) -> dict[str, float]:
    """What was stored; what is not points by name does not count."""
    try:
        stored = json.loads((folder / POINTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(stored, dict):
        return {}
    return {name: points for name, points in stored.items() if isinstance(points, int | float)}
