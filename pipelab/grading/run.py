"""``pipelab.grade``: grades exercises from a notebook, in processes that the notebook's kernel knows nothing of."""

import json
import subprocess
import sys
from pathlib import Path

from ..errors import UsageError
from .exercise import nearest
from .results import Grade, Result


class Grades(list):
    """Grades of exercises; as text, and in a notebook as HTML."""

    def __str__(self) -> str:
        from .report import as_text

        return as_text(self)

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        from .report import as_markdown

        return as_markdown(self)


def grade(*numbers: str, folder: str | Path | None = None, student: str | None = None) -> Grades:
    """Grades exercises by number, such as ``grade("06")``; without a number, all of them.

    folder: of the exercises (default: the nearest folder "exercises"). student: an id that sizes and data may depend on.
    Raises UsageError for unknown numbers. The student's code runs in processes of its own.
    """
    command = [sys.executable, "-m", "pipelab", "grade", *numbers, "--json", "--exercises", str(folder or nearest())]
    command += ["--student", student] if student else []
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    try:
        data = json.loads(done.stdout)
    except ValueError:
        raise UsageError(f"Grading ended with exit code {done.returncode}: {done.stderr.strip()[-2000:]}") from None
    if "error" in data:
        raise UsageError(data["error"])
    return Grades(
        Grade(g["exercise"], g["title"], [Result(**test) for test in g["tests"]], g["seconds"], g["note"])
        for g in data["exercises"]
    )
