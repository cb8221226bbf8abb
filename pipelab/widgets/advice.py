"""What would help against a gap: moves are tried in the simulator before they are named."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..catalogue import entry
from ..errors import ScheduleError, UsageError
from ..schedule import Schedule
from ..simulator import simulate
from ..timeline import Timeline
from ..timeline.idle import Idle
from .settings import Settings

WORTH = 0.005
"""A move that shortens the step by less than this share is not named."""
MOST = 3

_SCHEDULES = {
    "warm-up": ("interleaved-1f1b", "interleaved-zb", "zb-v", "dualpipe", "chimera"),
    "cool-down": ("zb-h1", "zb-h2", "zb-v", "interleaved-zb"),
    "upstream-forward": ("interleaved-1f1b", "zb-h1", "zb-v", "interleaved-zb"),
    "downstream-backward": ("eager-1f1b", "zb-h1", "zb-h2", "interleaved-1f1b"),
    "transfer": ("eager-1f1b", "zb-h2", "gpipe"),
    "imbalance": (),
}
"""By cause of the gap: schedules that may have less of it."""

_PRICES = {
    "warm-up": (
        "The gap is the price of several ranks: work reaches this one through those before it."
    ),
    "cool-down": "The gap is the price of several ranks: the last gradients leave through others.",
    "upstream-forward": "The gap is the price of this order: other ranks decide the step.",
    "downstream-backward": "The gap is the price of this order: other ranks decide the step.",
    "transfer": "The gap is the price of the link.",
    "imbalance": "The gap is the price of stages that differ.",
    "barrier": "The gap is the price of one moment for all: step each rank on its own.",
    "gap": "Nothing in the schedule: larger micro-batches make such overhead a smaller share.",
}


class _Move(NamedTuple):
    words: str
    time: float
    peak: float


def advice(settings: Settings, idle: Idle) -> str:
    """Moves that shorten the step, each with by how much, best first; else what the gap pays for.

    Times are those of a batch with hold="batch", else per micro-batch: only they can be compared.
    """
    now = settings.predict()
    unit = 1.0 if settings.one_batch else settings.microbatches
    time, peak = now.makespan / unit, float(now.bytes_held.max())
    moves = [
        *_by_hand(settings, now, idle, unit),
        *_by_settings(settings, idle.cause, now.schedule.stages),
    ]
    better = sorted(
        (move for move in moves if move.time < time * (1 - WORTH)), key=lambda move: move.time
    )
    price = _PRICES[idle.cause]
    if not better:
        return price if not moves else f"Nothing that was tried shortens the step. {price}"
    what = "Time per batch" if settings.one_batch else "Time per micro-batch"
    told = "; ".join(_told(move, time, peak) for move in better[:MOST])
    return f"{what}, simulated: {told}."


def _told(move: _Move, time: float, peak: float) -> str:
    words = f"{move.words} {time:.3g} → {move.time:.3g} (−{100 * (1 - move.time / time):.0f} %)"
    if move.peak > peak * (1 + WORTH):
        words += f", with {move.peak / peak:.3g} × the peak memory"
    return words


def _by_settings(settings: Settings, cause: str, stages: int) -> Iterator[_Move]:
    """Other settings that may help against this cause, as far as they are possible.

    They cut the same model: without one batch, or with costs per stage, into as many stages.
    """
    if cause not in _SCHEDULES:
        return
    changes: list[tuple[str, dict[str, Any]]] = [
        (entry(name).title, {"schedule": name, "stages_per_rank": 0})
        for name in _SCHEDULES[cause]
        if name != settings.schedule
    ]
    more = 2 * settings.microbatches
    changes.append((f"{more} micro-batches", {"microbatches": more}))
    if settings.latency:
        changes.append((f"latency {settings.latency / 2:g}", {"latency": settings.latency / 2}))
    if any(factor != 1 for factor in settings.stage_costs):
        changes.append(("equal stages", {"stage_costs": ()}))
    for words, change in changes:
        other = settings.with_changes(**change)
        try:
            found = other.predict()
        except UsageError:
            continue
        cut_anew = found.schedule.stages != stages
        if cut_anew and (not settings.one_batch or settings.stage_costs):
            continue
        unit = 1.0 if other.one_batch else other.microbatches
        yield _Move(words, found.makespan / unit, float(found.bytes_held.max()))


def _by_hand(settings: Settings, now: Timeline, idle: Idle, unit: float) -> Iterator[_Move]:
    """The action that was ready, moved into the gap."""
    if idle.filler is None or idle.ended_by is None or settings.recompute != "none":
        return
    schedule = settings.build()
    moved, before = schedule.atom(idle.filler), schedule.atom(idle.ended_by)
    rows = [list(row) for row in schedule.actions]
    row = rows[idle.rank]
    if moved not in row or before not in row:  # one of them belongs to an overlapped pair
        return
    row.remove(moved)
    row.insert(row.index(before), moved)
    try:
        order = Schedule.from_rows(rows, weights=schedule.weights)
        found = simulate(order, settings.costs(order.stages))
    except (ScheduleError, UsageError):
        return
    share = float(now.bytes_held.max()) / max(now.metrics["peak_in_flight"])
    peak = share * max(found.metrics["peak_in_flight"])
    yield _Move(f"{moved} moved here", found.makespan / unit, peak)
