"""`pipelab grade`: one student's exercises, or a class."""

import argparse
import json
from collections.abc import Callable

from .classes import grade_class as grade_everybody
from .exercise import exercises
from .report import as_classroom, as_data, as_gradescope, as_junit, as_markdown, as_text
from .supervisor import Limits, supervise

Answer = tuple[dict, str, dict[str, str]]
"""What to print as JSON and as text, and what to write into which file."""


def grade_one(args: argparse.Namespace, say: Callable[[str], None]) -> Answer:
    """The exercises as they lie in their folder."""
    grades = []
    for exercise in exercises(args.exercises, args.names):
        say(f"grading {exercise.name} …")
        grades.append(
            supervise(exercise, student=args.student, limits=Limits(seconds=float(args.seconds)))
        )
    files = {
        args.junit: lambda: as_junit(grades),
        args.gradescope: lambda: json.dumps(as_gradescope(grades), indent=1),
        args.markdown: lambda: as_markdown(grades),
        args.classroom: lambda: as_classroom(grades),
    }
    return as_data(grades), as_text(grades), {name: make() for name, make in files.items() if name}


def grade_class(args: argparse.Namespace, say: Callable[[str], None]) -> Answer:
    """Every folder of --submissions, with the tests of the teacher's exercises."""
    chosen = exercises(args.exercises, args.names)
    book = grade_everybody(
        chosen, args.submissions, args.out, say=say, limits=Limits(seconds=float(args.seconds))
    )
    return {"grades": str(book)}, f"the grade book is {book}", {}
