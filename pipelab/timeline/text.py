"""A timeline drawn with letters, true in time, for a terminal.

rank 0  F0-F1-......B0====...B1====
rank 1  ...F0-B0====F1-B1====......
        0                         9
F- forward, B= backward, . idle
"""

import shutil
from typing import TYPE_CHECKING

import numpy as np

from ..schedule import Action, Kind, Overlap
from ..schedule.kinds import KINDS

if TYPE_CHECKING:
    from .timeline import Timeline

PAIR, IDLE = "#", "."
NARROWEST = 10


def draw(timeline: "Timeline", width: int | None = None) -> str:
    """One row per rank, one column per equal part of the makespan.

    width: characters in all; the terminal's without it. A column shows what the rank does in the
    middle of its part: ``.`` nothing; else the sign of the action's kind, its first columns the
    kind's letter and the micro-batch where they fit, with the stage before them where a rank has
    several (``2F0``). Where every time is a multiple of the shortest action, each such unit takes
    equally many columns, if there is room.
    """
    ranks = timeline.schedule.ranks
    digits = len(str(ranks - 1))
    label = digits + len("rank   ")
    width = shutil.get_terminal_size().columns if width is None else width
    space = max(width - label, NARROWEST)
    units = _units(timeline, space)
    columns = space // units * units
    lines = [f"rank {rank:<{digits}}  {_row(timeline, rank, columns)}" for rank in range(ranks)]
    lines.append(" " * label + "0" + _end(timeline, columns).rjust(columns - 1))
    return "\n".join([*lines, _legend(timeline)])


def _row(timeline: "Timeline", rank: int, columns: int) -> str:
    """What one rank does, in so many columns."""
    schedule = timeline.schedule
    cells, (low, high) = schedule.actions[rank], schedule.slices[rank]
    first = low + np.flatnonzero(schedule.heads[low:high])
    middles = (np.arange(columns) + 0.5) * timeline.makespan / columns
    middles += float(timeline.started.min())
    which = np.searchsorted(timeline.started[first], middles, side="right") - 1
    busy = (which >= 0) & (middles < timeline.ended[first][which])
    shown = np.where(busy, which, -1)
    changes = np.flatnonzero(np.diff(shown)) + 1
    row, at = "", 0
    for change in [*changes.tolist(), columns]:
        length = change - at
        if busy[at]:
            row += _bar(cells[which[at]], length, several=schedule.stages_per_rank != 1)
        else:
            row += IDLE * length
        at = change
    return row


def _end(timeline: "Timeline", columns: int) -> str:
    """The makespan, with as many digits as there is room for."""
    texts = [f"{timeline.makespan:.{digits}g}{timeline.unit}" for digits in (6, 4, 3, 2, 1)]
    return next((text for text in texts if len(text) < columns), texts[-1])


def _units(timeline: "Timeline", space: int) -> int:
    """How many of the shortest action make the makespan.

    1 if some time is not a multiple of it, or if they do not fit.
    """
    lengths = timeline.compute[timeline.compute > 0]
    if not len(lengths):
        return 1
    times = (np.append(timeline.started, timeline.ended) - timeline.started.min()) / lengths.min()
    count = round(times.max())
    return count if count <= space and np.abs(times - times.round()).max() < 1e-6 else 1


def _bar(cell: Action | Overlap, columns: int, *, several: bool) -> str:
    """One action, so many columns wide, with the longest label that fits.

    A label with a stage needs a sign behind it: 0F11F1 could be two things.
    """
    parts = cell if isinstance(cell, Overlap) else (cell,)
    row = KINDS[parts[0].kind]
    letter, fill = row.letter, row.look.sign
    if len(parts) == 2:
        letter, fill = PAIR if columns < 2 else letter, PAIR
    short, long = "".join(map(_short, parts)), "".join(map(_long, parts))
    for text in (long, short) if several else (short,):
        if len(text) + (text == long) <= columns:
            return text + fill * (columns - len(text))
    return letter + fill * (columns - 1)


def _short(action: Action) -> str:
    """The letter of the kind, with the number if it has one."""
    row = KINDS[action.kind]
    return f"{row.letter}{action.microbatch if row.numbered else ''}"


def _long(action: Action) -> str:
    """The same with the stage before it."""
    return str(action) if KINDS[action.kind].numbered else f"{action.stage}{_short(action)}"


def _legend(timeline: "Timeline") -> str:
    took_time = {Kind(kind) for kind in timeline.kind[timeline.ended > timeline.started]}
    rows = [KINDS[kind] for kind in sorted(took_time)]
    signs = [f"{row.letter}{row.look.sign} {row.title}" for row in rows]
    pair = [f"{PAIR} forward and backward at once"] if timeline.schedule.overlaps else []
    return ", ".join([*signs, *pair, f"{IDLE} idle"])
