"""Why ranks stand idle, for the canvas and for a person.

In: a timeline. Out: intervals with their causes, totals, and one gap explained.
"""

from typing import Any, NamedTuple

import numpy as np

from ..schedule import Kind
from ..timeline import Idle, Timeline
from ..timeline.idle import CAUSES
from .advice import advice
from .settings import Settings


class Cause(NamedTuple):
    """How a cause is drawn, and what it means.

    ``dark`` is its colour on a dark background, ``pattern`` a letter of the palette. ``why`` is a
    sentence about one gap; in braces stand the rank, the action that ended it, what that one
    wanted, and where from.
    """

    title: str
    colour: str
    dark: str
    pattern: str
    meaning: str
    why: str


_NOT_FINISHED = "{action} needs the result of {wanted}, which rank {where} had not finished."

LOOKS = {
    "warm-up": Cause(
        "warm-up",
        "#E3E6EA",
        "#3A3F46",
        "",
        "before the rank's first action",
        "Rank {rank} has nothing to do yet: its first input has to come through the ranks before "
        "it.",
    ),
    "upstream-forward": Cause(
        "forward upstream",
        "#D3D7DC",
        "#565C65",
        "/",
        "waits for a forward on another rank",
        _NOT_FINISHED,
    ),
    "downstream-backward": Cause(
        "backward downstream",
        "#D3D7DC",
        "#565C65",
        "|",
        "waits for a backward on another rank",
        _NOT_FINISHED,
    ),
    "transfer": Cause(
        "transfer",
        "#BFC4CB",
        "#6B727C",
        "x",
        "data is under way",
        "{action} needs the result of {wanted}, which is on its way from rank {where}.",
    ),
    "imbalance": Cause(
        "imbalance",
        "#D3D7DC",
        "#565C65",
        ".",
        "waits because a stage costs more than the mean",
        f"{_NOT_FINISHED} That stage costs more than the mean: with equal stages the wait would be "
        "over by now.",
    ),
    "barrier": Cause(
        "barrier",
        "#A4ABB5",
        "#7F8792",
        "x",
        "an optimizer step waits for all ranks",
        "{action} waits until every rank has come to its optimizer step.",
    ),
    "gap": Cause(
        "gap",
        "#A4ABB5",
        "#7F8792",
        ".",
        "between two actions, before the second asked for its input",
        "The rank had not asked for the input of {action} yet: it was being handed over, or the "
        "machine was busy.",
    ),
    "cool-down": Cause(
        "cool-down",
        "#CBD0D6",
        "#4A5059",
        "",
        "after the rank's last action",
        "Rank {rank} is done; the others are not.",
    ),
}
"""Greys and patterns: hues mean kinds of actions, and waiting must never look like work."""

SENTENCES = {
    "not_ready": "{action} was not ready.",
    "ended": "Ended by {action}.",
    "never_ended": "Nothing ends it: the step is over.",
    "nothing_left": "Forced: no action of this rank is left.",
    "forced": (
        "Forced: no later action of this rank had its inputs, so no other order of its actions "
        "would have used the time."
    ),
    "choice": "A choice: {filler} was ready and could have run here.",
    "choice_of_forward": (
        "A choice: {filler} was ready and could have run here. It would take memory for one more "
        "micro-batch."
    ),
}
"""What is said of a gap whatever its cause is. The front end fills in the same sentences."""


def words() -> dict[str, Any]:
    """What the front end needs to find and to explain causes by itself: looks and sentences."""
    looks = [LOOKS[cause]._asdict() | {"cause": cause} for cause in CAUSES]
    return {"looks": looks, "sentences": SENTENCES}


def causes(timeline: Timeline, scale: float = 1.0) -> dict[str, Any]:
    """All idle time by cause, for the canvas.

    Keys: source, looks, totals (cause -> per rank), makespan, and intervals: Float32 of shape
    (n, 4) with rank, start, end, and the index of the cause in ``looks``. Times are multiplied by
    ``scale``.
    """
    origin = float(timeline.started.min())
    index = {cause: i for i, cause in enumerate(CAUSES)}
    rows = []
    for idle in timeline.idle:
        start, end = (idle.start - origin) * scale, (idle.end - origin) * scale
        rows.append((idle.rank, start, end, index[idle.cause]))
    totals = {}
    for cause, per_rank in timeline.idle_by_cause.items():
        totals[cause] = [time * scale for time in per_rank]
    return {
        "source": timeline.source,
        "looks": words()["looks"],
        "totals": totals,
        "makespan": timeline.makespan * scale,
        "intervals": np.array(rows, np.float32).reshape(-1, 4).tobytes(),
    }


def critical_path(timeline: Timeline, scale: float = 1.0) -> dict[str, Any]:
    """The chain of actions that decided the makespan, for the canvas.

    Keys: source, and steps: Float32 of shape (n, 3) with rank, start and end.
    """
    atoms, origin = timeline.critical_path, float(timeline.started.min())
    started = (timeline.started[atoms] - origin) * scale
    ended = (timeline.ended[atoms] - origin) * scale
    rows = np.stack([timeline.rank[atoms], started, ended], axis=1)
    return {"source": timeline.source, "steps": rows.astype(np.float32).tobytes()}


def explain(
    timeline: Timeline,
    rank: int,
    moment: float,
    scale: float = 1.0,
    *,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Explain why a rank stands idle.

    Args:
        timeline: what is drawn.
        rank: which rank.
        moment: in drawn time, counted from the first start.
        scale: drawn time per time of the timeline.
        settings: of which it is a prediction or a run; what would help is simulated with them.

    Returns:
        source, rank, start, end, cause, title, and the sentences why, ended, choice and remedy
        (empty without settings); nothing if the rank does not stand idle then.
    """
    origin = float(timeline.started.min())
    now = moment / scale + origin
    of_rank = (idle for idle in timeline.idle if idle.rank == rank)
    found = next((idle for idle in of_rank if idle.start <= now < idle.end), None)
    if found is None:
        return {}
    return {
        "source": timeline.source,
        "rank": rank,
        "start": (found.start - origin) * scale,
        "end": (found.end - origin) * scale,
        "cause": found.cause,
        "title": LOOKS[found.cause].title,
        "remedy": advice(settings, found) if settings else "",
    } | _told(timeline, found)


def _told(timeline: Timeline, idle: Idle) -> dict[str, str]:
    """The sentences about an idle interval: why, ended and choice."""
    schedule = timeline.schedule
    why, choice = LOOKS[idle.cause].why, "forced"
    values: dict[str, object] = {"rank": idle.rank}
    if idle.ended_by is not None:
        values["action"] = schedule.atom(idle.ended_by)
        source = _source(timeline, idle.ended_by)
        if source is not None:
            values |= {"wanted": schedule.atom(source), "where": int(timeline.rank[source])}
        elif "{wanted}" in why:
            why = SENTENCES["not_ready"]
    if idle.filler is not None:
        filler = values["filler"] = schedule.atom(idle.filler)
        choice = "choice_of_forward" if filler.kind == Kind.F else "choice"
    ended = "ended"
    if idle.ended_by is None:  # its cause is "cool-down"
        ended, choice = "never_ended", "nothing_left"
    sentences = {
        "why": why,
        "ended": SENTENCES[ended],
        "choice": SENTENCES[choice],
    }
    return {name: sentence.format_map(values) for name, sentence in sentences.items()}


def _source(timeline: Timeline, atom: int) -> int | None:
    """The action of another rank that an atom, or the cell that it begins, waited for."""
    schedule, producer = timeline.schedule, timeline.schedule.producer
    rank, cell = schedule.rank[atom], schedule.cell[atom]
    sources = []
    for one in (atom, atom + 1):
        in_cell = one < len(schedule.cell) and schedule.cell[one] == cell
        if in_cell and schedule.rank[one] == rank and schedule.crosses[one]:
            sources.append(int(producer[one]))
    return max(sources, key=lambda source: timeline.ended[source], default=None)
