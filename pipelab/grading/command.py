"""`pipelab grade`: one student's exercises, or a class."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UsageError
from . import answers
from .classes import Wishes
from .classes import grade_class as grade_everybody
from .exercise import exercises
from .report import as_classroom, as_data, as_gradescope, as_junit, as_markdown, as_text
from .results import with_points
from .room import Limits
from .supervisor import supervise
from .workers import stopping

Answer = tuple[dict[str, Any], str, dict[str, str], bool]
"""What to print as JSON and as text, what to write into which file, and whether all took place."""
CLASS_FLAGS = ("out", "roster", "hidden", "again", "jobs", "anonymous")


def grade_one(args: argparse.Namespace, say: Callable[[str], None]) -> Answer:
    """Grade the exercises as they lie in their folder, and say what was guessed and reached."""
    grades, limits = [], Limits(seconds=float(args.seconds))
    chosen = exercises(args.exercises, args.names)
    for exercise in chosen:
        say(f"grading {exercise.name} …")
        with stopping():
            grade = supervise(exercise, student=args.student, limits=limits)
        grades.append(with_points(grade, exercise))
    stored = answers.beside(chosen[0].tests.parents[1])
    if args.guesses:
        grades.append(answers.as_grade(stored))
    files = {}
    if args.junit:
        files[args.junit] = as_junit(grades)
    if args.gradescope:
        files[args.gradescope] = json.dumps(as_gradescope(grades), indent=1)
    if args.markdown:
        files[args.markdown] = as_markdown(grades)
    if args.classroom:
        files[args.classroom] = as_classroom(grades)
    whole = all(grade.status != "error" for grade in grades)
    data = as_data(grades) | answers.as_data(stored)
    text = f"{as_text(grades)}\n{answers.as_line(stored)}" if stored else as_text(grades)
    return data, text, files, whole


def grade_class(args: argparse.Namespace, say: Callable[[str], None]) -> Answer:
    """Grade everybody in --submissions, with the tests of the teacher's exercises."""
    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f"--jobs is how many students are graded side by side, not {args.jobs}")
    wishes = Wishes(
        roster=args.roster and Path(args.roster),
        hidden=args.hidden and Path(args.hidden),
        again=tuple(args.again),
        jobs=args.jobs,
        anonymous=args.anonymous,
        guesses=args.guesses,
        limits=Limits(seconds=float(args.seconds)),
    )
    chosen = exercises(args.exercises, args.names)
    outcome = grade_everybody(chosen, args.submissions, args.out, wishes=wishes, say=say)
    page = outcome.book.with_name("class.html")
    text = f"the grade book is {outcome.book}; what to talk about is in {page}"
    if outcome.failed:
        text += f"\nNOT GRADED, so run this again: {', '.join(outcome.failed)}"
    data = {"grades": str(outcome.book), "not_graded": list(outcome.failed)}
    return data, text, {}, not outcome.failed
