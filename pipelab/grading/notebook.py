"""A grading in a notebook: points, reasons, and the wrong action beside the expected one."""

import os
import re
from collections.abc import Iterator, Sequence
from html import escape
from urllib.parse import quote

import numpy as np

from ..course.table import find_home, lessons
from ..errors import UsageError
from ..plots import svg
from ..schedule import Schedule, check
from ..simulator import simulate
from ..timeline import Timeline
from .remote import clean
from .report import MARKS, how, said_once
from .results import Grade

_READ = re.compile(r"notebook (\d\d) \(([^()]*)\), section “([^”]*)”")


def as_html(grades: Sequence[Grade], so_far: str) -> str:
    """The grades; what several tests were told for one cause is said once.

    so_far: what is said under them.
    """
    parts = []
    for grade in grades:
        parts.append(f"<h4>{escape(grade.title)}: {grade.score:g} of {grade.points:g} points</h4>")
        if grade.note:
            parts.append(f"<pre>{escape(grade.note)}</pre>")
        drawn = set()
        for result, said in said_once(grade):
            mark = MARKS.get(result.status, "✗")
            points = f"{mark} {result.score:g}/{result.points:g}"
            parts.append(f"<div><b>{points}</b>  {escape(result.title)}{how(result.status)}</div>")
            if said:
                style = "white-space:pre-wrap;word-break:normal;margin:.2em 0 .6em 2em"
                parts.append(f'<pre style="{style}">{_linked(clean(said))}</pre>')
                if (both := (result.schedule, result.expected)) not in drawn:
                    drawn.add(both)
                    parts += _pictures(*both)
    return "\n".join([*parts, f"<p><b>{_linked(so_far)}</b></p>"])


def _linked(text: str) -> str:
    """Escaped text in which sections of the course are links."""
    return _READ.sub(_link, escape(text, quote=False))


def _link(found: re.Match) -> str:
    number, _, section = found.groups()
    try:
        home = find_home()
        lesson = next(each for each in lessons(home) if each.number == number)
    except (UsageError, StopIteration):
        return found[0]
    path = os.path.relpath(home / "notebooks" / lesson.file)
    return f'<a href="{quote(path)}#{quote(section.replace(" ", "-"), safe=",")}">{found[0]}</a>'


def _pictures(csv: str, expected_csv: str) -> Iterator[str]:
    """The schedule that a test refused, and the expected one where there is just one.

    The first action in which they differ is framed.
    """
    if not csv:
        return
    yours = Schedule.from_csv(csv, name="yours", collectives=True)
    if not expected_csv:
        yield _picture("your schedule", yours, None)
        return
    expected = Schedule.from_csv(expected_csv, name="expected")
    place = first_difference(yours, expected)
    yield _picture("your schedule", yours, place)
    if place is not None:
        yield _picture("expected", expected, place)


def first_difference(yours: Schedule, expected: Schedule) -> tuple[int, int] | None:
    """(rank, step) of the first action that differs, rank by rank; None where none does."""
    for rank, (row, right) in enumerate(zip(_rows(yours), _rows(expected), strict=False)):
        for step in range(max(len(row), len(right))):
            if row[step : step + 1] != right[step : step + 1]:
                return rank, step
    return None


def _rows(schedule: Schedule) -> list[list[str]]:
    return [[str(action) for action in row] for row in schedule.actions]


def _picture(what: str, schedule: Schedule, place: tuple[int, int] | None) -> str:
    runs = check(schedule) is None
    if runs:
        timeline = simulate(schedule)
    else:
        what += ": it cannot run, so its actions stand in their order, without waits"
        timeline = _in_order(schedule)
    framed = None
    if place is not None:
        rank, step = place
        row = _rows(schedule)[rank]
        if step < len(row):
            what += f"; framed: {row[step]} on rank {rank}, step {step}"
            framed = int(schedule.offsets[rank]) + step
        else:
            what += f"; rank {rank} ends before step {step}"
    return f"<div>{escape(what)}</div>{svg(timeline, framed=framed, bare=not runs)}"


def _in_order(schedule: Schedule) -> Timeline:
    """A timeline whose actions take 1 and wait for nothing."""
    step = np.arange(len(schedule.kind)) - schedule.offsets[schedule.rank].astype(float)
    after, none = step + 1, np.zeros(len(step))
    return Timeline(
        schedule, asked=step, sent=step, arrived=step, started=step, ended=after,
        compute=after - step, worked=none, bytes_held=none, bytes_after=none, bytes_sent=none,
        version=none,
    )  # fmt: skip
