"""What a student guessed and which goals were reached, for grading and for the teacher.

In: ``guesses.json``, as the notebooks wrote it or as it was handed in; nothing in it is trusted.
Out: data, lines, a grade without the word "wrong" (who guesses has points, whatever the guess), and
for the class a histogram per question.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..course import figures, store
from ..course.kinds import Choice, Curve, Number, Order, Question
from ..course.lab_goals import all_goals
from ..course.questions import QUESTIONS
from ..errors import UsageError
from .archive import Unreadable
from .results import Grade, Result
from .submissions import Student

EXERCISE = "guesses"
"""The name of their grade, beside those of the exercises."""
BINS = 6


def beside(exercises: Path) -> dict[str, Any]:
    """What is stored in the notebooks' folder beside the exercises."""
    return store.read(exercises.resolve().parent / "notebooks" / store.STORE)


def handed_in(student: Student) -> dict[str, Any]:
    """What a student handed in; nothing where the file is missing or cannot be read."""
    for entry in student.found:
        if entry.name != store.STORE or entry.problem:
            continue
        try:
            stored = json.loads(entry.read())
        except (OSError, ValueError, Unreadable, RecursionError):
            continue
        if isinstance(stored, dict):
            return stored
    return {}


def first_guess(stored: dict[str, Any], slug: str) -> Any:
    """The first guess to a question, if there is one that can be an answer; else None."""
    entry = store.entry(stored, slug)
    if entry.get("first") is None:
        return None
    try:
        return QUESTIONS[slug].read(entry["first"])
    except (UsageError, OverflowError):
        return None


def reached(stored: dict[str, Any], slug: str) -> int:
    """How many goals of a list were reached."""
    found = store.entry(stored, slug).get("reached", ())
    if not isinstance(found, list):
        return 0
    return len({i for i in found if isinstance(i, int) and 0 <= i < len(all_goals()[slug])})


def as_data(stored: dict[str, Any]) -> dict[str, Any]:
    """Guesses and goals as `pipelab grade --json` prints them."""
    guesses = {}
    for slug, asked in QUESTIONS.items():
        first = first_guess(stored, slug)
        entry = store.entry(stored, slug)
        if first is not None:
            guesses[slug] = {"first": first, "right": asked.right(first)}
        elif entry.get("shown") is True:
            guesses[slug] = {"shown": True}
    goals = {slug: {"reached": reached(stored, slug), "of": len(all_goals()[slug])}
             for slug in all_goals()}  # fmt: skip
    return {"guesses": guesses, "goals": goals}


def as_line(stored: dict[str, Any]) -> str:
    """The same in one line."""
    data = as_data(stored)
    locked = [guess for guess in data["guesses"].values() if "first" in guess]
    right = sum(guess["right"] for guess in locked)
    done = sum(goal["reached"] for goal in data["goals"].values())
    of = sum(goal["of"] for goal in data["goals"].values())
    return (
        f"guesses: {len(locked)} of {len(QUESTIONS)} locked, {right} right the first time; "
        f"goals: {done} of {of} reached"
    )


def as_grade(stored: dict[str, Any]) -> Grade:
    """A point for each question with a guess, right or not, and one for each goal reached."""
    grade = Grade(EXERCISE, "Guesses and goals")
    for slug, asked in QUESTIONS.items():
        there = float(first_guess(stored, slug) is not None)
        grade.results.append(_result(slug, f"a guess: {asked.text[:60]}…", 1, there))
    for slug, wanted in all_goals().items():
        done = reached(stored, slug)
        grade.results.append(_result(slug, f"the goals of {slug}", len(wanted), done))
    return grade


def _result(slug: str, title: str, points: float, score: float) -> Result:
    status = "passed" if score == points else "partial" if score else "not started"
    return Result(slug, title, float(points), float(score), status)


def class_part(everybody: Sequence[dict[str, Any]]) -> list[str]:
    """HTML for the page of the class: a histogram per question, and how far the goals went."""
    if not any(everybody):
        return []
    parts = ["<h2>Guesses</h2>", "<p>First tries. Blue is what counts as right.</p>"]
    for slug, asked in QUESTIONS.items():
        guesses = [guess for each in everybody if (guess := first_guess(each, slug)) is not None]
        shown = sum(store.entry(each, slug).get("shown") is True for each in everybody)
        parts.append(f"<h3>{slug}</h3><p>{escape(asked.text)}</p>")
        right = sum(asked.right(guess) for guess in guesses)
        parts.append(f"<p>{len(guesses)} guesses, {right} right; {shown} asked to be shown.</p>")
        if guesses:
            counts = _counted(asked, guesses)
            parts.append(figures.histogram(counts, right=_group(asked, asked.truth())))
        if isinstance(asked, Choice):
            parts += [f"<p>{_letter(i)}: {escape(o.text)}</p>" for i, o in enumerate(asked.options)]
    parts.append("<h2>Goals</h2>")
    rows = {slug: sum(reached(each, slug) == len(of) for each in everybody)
            for slug, of in all_goals().items()}  # fmt: skip
    parts.append("<p>Students who reached all goals of a lab.</p>")
    parts.append(figures.histogram(rows))
    return parts


def _counted(asked: Question, guesses: Iterable[Any]) -> dict[str, int]:
    """How many guesses are in each group, in the order of the groups."""
    counts = Counter(_group(asked, guess) for guess in guesses)
    return {name: counts[name] for name in _groups(asked)}


def _groups(asked: Question) -> list[str]:
    """The groups of answers to a question, in order."""
    if isinstance(asked, Number):
        ends = [asked.low + (asked.high - asked.low) * i / BINS for i in range(BINS + 1)]
        inside = [f"{figures.short(a)} to {figures.short(b)}"
                  for a, b in zip(ends, ends[1:], strict=False)]  # fmt: skip
        return ["less", *inside, "more"]
    if isinstance(asked, Choice):
        return [_letter(i) for i in range(len(asked.options))]
    if isinstance(asked, Curve):
        return ["too low", "right", "too high", "both"]
    return ["all in place", "half or more", "less than half"]


def _group(asked: Question, guess: Any) -> str:
    """The group of one answer."""
    groups = _groups(asked)
    if isinstance(asked, Number):
        place = (guess - asked.low) / (asked.high - asked.low) * BINS
        return groups[1 + max(-1, min(BINS, int(place // 1)))]
    if isinstance(asked, Choice):
        return groups[guess]
    truth = asked.truth()
    if isinstance(asked, Order):
        fine = sum(a == b for a, b in zip(guess, truth, strict=True))
        return groups[0 if fine == len(truth) else 1 if 2 * fine >= len(truth) else 2]
    if asked.right(guess):
        return "right"
    near = (asked.high - asked.low) / 50
    off = [y - t for y, t in zip(guess, truth, strict=True)]
    high, low = any(each > near for each in off), any(each < -near for each in off)
    return "both" if high and low else "too high" if high else "too low"


def _letter(place: int) -> str:
    return "abcdefgh"[place]
