"""How a notebook ends: guess, law and machine on one axis, points, and a sentence."""

import json
from html import escape
from pathlib import Path
from typing import Any

from ..errors import UnknownName
from . import store
from .figures import Picture
from .lab_goals import all_goals
from .questions import question
from .table import Lesson, find_home, lessons

POINTS = "points.json"
"""Written by the grading, in the folder of the exercises: what was reached last, by exercise."""


def ending(number: str, machine: Any = None, *, home: str | Path | None = None) -> Picture:
    """Show how a notebook ends.

    Args:
        number: of the notebook, such as "02".
        machine: what this machine measured, in the unit of the notebook's last question: a number,
            or for a curve values by x.
        home: the folder that holds ``notebooks/``; without it, the course that this is run in.

    Returns:
        A picture that the notebook shows: the guess beside the law and the machine; what was
        guessed, reached and graded so far; one sentence to remember.

    Raises:
        UnknownName: there is no such notebook.
    """
    place = find_home() if home is None else Path(home)
    course = lessons(place)
    found = next((lesson for lesson in course if lesson.number == number), None)
    if found is None:
        raise UnknownName("notebook", number, [lesson.number for lesson in course])
    stored = store.read(store.place())
    parts = [_axis(found, stored, machine)]
    parts.append(f"<p>{escape(_so_far(found, stored, place))}</p>")
    parts.append(f"<p><b>{escape(found.remember)}</b></p>")
    return Picture("\n".join(parts))


def _axis(lesson: Lesson, stored: dict[str, Any], machine: Any) -> str:
    """The notebook's main question, answered by the learner, by the law and by the machine."""
    asked = question(lesson.measured)
    entry = store.entry(stored, lesson.measured)
    tries = [asked.read(entry[name]) for name in ("first", "second") if entry.get(name) is not None]
    missing = "" if tries else "<p>You have not locked a guess to this question.</p>"
    return f"<p>{escape(asked.text)}</p>{missing}{asked.picture(tries, machine)}"


def _so_far(lesson: Lesson, stored: dict[str, Any], place: Path) -> str:
    """What was guessed and reached in this notebook, and the points of the course."""
    guessed = [name for name in lesson.guesses if "first" in store.entry(stored, name)]
    right = [name for name in guessed if question(name).right(store.entry(stored, name)["first"])]
    goals = sum(len(all_goals()[name]) for name in lesson.goals)
    reached = sum(len(store.entry(stored, name).get("reached", ())) for name in lesson.goals)
    points = _points(place)
    return (
        f"In this notebook: {len(guessed)} of {len(lesson.guesses)} guesses locked, {len(right)} "
        f"right the first time; {reached} of {goals} goals reached. "
        f"Exercises of the course so far: {points:g} points."
    )


def _points(place: Path) -> float:
    try:
        known = json.loads((place / "exercises" / POINTS).read_text(encoding="utf-8"))
        return float(sum(value for value in known.values() if isinstance(value, int | float)))
    except (OSError, ValueError, AttributeError):
        return 0.0
