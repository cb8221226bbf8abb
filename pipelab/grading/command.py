"""`pipelab grade`: one student's exercises, or a class."""

import argparse
import json
from collections.abc import Callable
from typing import Any

from .classes import grade_class as grade_everybody
from .exercise import exercises
from .report import as_classroom, as_data, as_gradescope, as_junit, as_markdown, as_text
from .room import Limits
from .supervisor import supervise

Answer = tuple[dict[str, Any], str, dict[str, str]]
"""What to print as JSON and as text, and what to write into which file."""


def grade_one(args: argparse.Namespace, say: Callable[[str], None]) -> Answer:
    """Grade the exercises as they lie in their folder."""
    grades, limits = [], Limits(seconds=float(args.seconds))
    for exercise in exercises(args.exercises, args.names):
        say(f"grading {exercise.name} …")
        grades.append(supervise(exercise, student=args.student, limits=limits))
    files = {}
    if args.junit:
        files[args.junit] = as_junit(grades)
    if args.gradescope:
        files[args.gradescope] = json.dumps(as_gradescope(grades), indent=1)
    if args.markdown:
        files[args.markdown] = as_markdown(grades)
    if args.classroom:
        files[args.classroom] = as_classroom(grades)
    return as_data(grades), as_text(grades), files


def grade_class(args: argparse.Namespace, say: Callable[[str], None]) -> Answer:
    """Grade every folder of --submissions, with the tests of the teacher's exercises."""
    chosen, limits = exercises(args.exercises, args.names), Limits(seconds=float(args.seconds))
    book = grade_everybody(chosen, args.submissions, args.out, say=say, limits=limits)
    return {"grades": str(book)}, f"the grade book is {book}", {}
