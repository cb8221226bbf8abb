"""How a notebook ends: guess, law and machine on one axis, points, and a sentence.

And how the course ends: all of its points.
"""

import json
from html import escape
from pathlib import Path
from typing import Any

from ..errors import UnknownName
from . import store
from .figures import COLOURS, WIDTH, Picture, label, svg
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


def all_points(*, home: str | Path | None = None) -> Picture:
    """Show every exercise with its points, and the guesses and goals of the whole course.

    Args:
        home: the folder that holds ``notebooks/``; without it, the course that this is run in.

    Returns:
        A picture: a row per exercise, what was reached of its points, and the sums.
    """
    place = find_home() if home is None else Path(home)
    course, known = lessons(place), _known(place)
    tasks = [task for lesson in course for task in lesson.exercises]
    left, right, high = 290, WIDTH - 80, 21
    scale = (right - left) / max(task.points for task in tasks)
    parts = []
    for row, task in enumerate(tasks):
        y = row * high
        reached = min(float(task.points), max(0.0, known.get(task.folder, 0.0)))
        parts.append(label(left - 10, y + 15, f"{task.number} {task.title}", "end"))
        for size, look in (
            (float(task.points), 'fill="none" stroke="currentColor" stroke-opacity="0.4"'),
            (reached, f'fill="{COLOURS["truth"]}"'),
        ):
            if size:
                parts.append(
                    f'<rect x="{left}" y="{y + 3}" width="{size * scale:.1f}" height="15" '
                    f'rx="2" {look}/>'
                )
        end = left + task.points * scale + 8
        parts.append(label(end, y + 15, f"{reached:g} of {task.points}", "start"))
    total = sum(task.points for task in tasks)
    whole = sum(min(float(t.points), max(0.0, known.get(t.folder, 0.0))) for t in tasks)
    said = f"{whole:g} of {total} points in {len(tasks)} exercises"
    return Picture(
        f"<p><b>{said}.</b> {escape(_whole_course(course))}</p>"
        f"{svg(parts, high * len(tasks) + 4, said)}"
    )


def _whole_course(course: list[Lesson]) -> str:
    """The guesses and the goals of all notebooks."""
    stored = store.read(store.place())
    guesses = [name for lesson in course for name in lesson.guesses]
    locked = [name for name in guesses if "first" in store.entry(stored, name)]
    right = [name for name in locked if question(name).right(store.entry(stored, name)["first"])]
    slugs = [name for lesson in course for name in lesson.goals]
    goals = sum(len(all_goals()[name]) for name in slugs)
    reached = sum(len(store.entry(stored, name).get("reached", ())) for name in slugs)
    return (
        f"{len(locked)} of {len(guesses)} guesses locked, {len(right)} right the first time; "
        f"{reached} of {goals} goals reached."
    )


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
    return float(sum(_known(place).values()))


def _known(place: Path) -> dict[str, float]:
    """What the grading has stored; what is not points by name does not count."""
    try:
        known = json.loads((place / "exercises" / POINTS).read_text(encoding="utf-8"))
        return {name: v for name, v in known.items() if isinstance(v, int | float)}
    except (OSError, ValueError, AttributeError):
        return {}
