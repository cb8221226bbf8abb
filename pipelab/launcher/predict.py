"""`pipelab simulate`: from a Schedule and flags to a Timeline, and what to say about it."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..schedule import Kind, Schedule
from ..timeline import Timeline
from .arguments import costs_of, memory_of

if TYPE_CHECKING:
    from ..search import Found

COMPARED = ("makespan", "bubble_fraction", "bubble_overhead", "bubble_rate")


def predict(schedule: Schedule, args: argparse.Namespace) -> Timeline:
    """Simulates the schedule as the flags of ``schedule`` or ``simulate`` say.

    Raises UsageError where they contradict.
    """
    from ..simulator import simulate

    if "activation_bytes" not in args:
        return simulate(schedule, costs_of(args))
    if (args.recompute is None) != (args.recompute_time is None):
        raise UsageError(
            "--recompute and --recompute-time need each other: how it is done, and how long it "
            "takes"
        )
    if args.optimizer is None and (args.step_time is not None or args.steps is not None):
        raise UsageError(
            "--step-time and --steps need --optimizer local or barrier: without it nothing steps"
        )
    return simulate(
        schedule,
        costs_of(args),
        recompute=args.recompute,
        optimizer=args.optimizer,
        steps=args.steps or 1,
        memory=memory_of(args),
    )


def as_data(timeline: Timeline, found: "Found | None", args: argparse.Namespace) -> dict:
    """What ``simulate --json`` prints: the metrics, and what the flags ask for in addition."""
    data = dict(timeline.metrics)
    if found:
        data |= {"lower_bound": found.lower_bound, "gap": found.gap}
    if args.optimizer:
        data["time_per_step"] = time_per_step(timeline)
    if timeline.memory:
        data |= timeline.peak_bytes
    if args.explain:
        data["idle_by_cause"] = timeline.idle_by_cause
    return data


def as_text(timeline: Timeline, found: "Found | None", args: argparse.Namespace) -> str:
    """The same for a person."""
    from ..timeline.text import draw

    metrics = timeline.metrics
    rows = [("rank", "span", "idle", "peak in flight", "until weight grad")]
    columns = ("spans", "idle", "peak_in_flight", "peak_in_flight_until_weight_grad")
    rows += [
        (str(rank), *map(text, values))
        for rank, values in enumerate(zip(*(metrics[c] for c in columns)))
    ]
    lines = [headline(timeline.schedule), f"makespan         {text(metrics['makespan'])}"]
    if args.optimizer:
        lines.append(
            f"time_per_step    {text(time_per_step(timeline))}  from the end of one step to the "
            "end of the next"
        )
    if found:
        lines += [
            f"lower_bound      {text(found.lower_bound)}  no order of F, B, I and W within this "
            "memory takes less",
            f"gap              {text(found.gap)}  makespan / lower_bound − "
            f"1{': this is the optimum' * found.proven}",
        ]
    lines += [
        f"bubble_fraction  {text(metrics['bubble_fraction'])}  idle / (ranks × makespan)",
        f"bubble_overhead  {text(metrics['bubble_overhead'])}  idle / busy",
        f"bubble_rate      {text(metrics['bubble_rate'])}  1 − busy/span, on the rank with the "
        "longest span",
        *table(rows),
        *(_memory(timeline) if timeline.memory else ()),
        *([draw(timeline)] if args.timeline else ()),
        *(explanation(timeline) if args.explain else ()),
    ]
    return "\n".join(lines)


def comparison(results: Sequence[dict]) -> str:
    """Several schedules, a line each; of one that is impossible the reason."""
    possible = [data for data in results if "problem" not in data]
    rows = [
        (
            data["schedule"],
            str(data["stages"]),
            *(text(data[key]) for key in COMPARED),
            str(max(data["peak_in_flight"])),
        )
        for data in possible
    ]
    lines = table([("schedule", "stages", *COMPARED, "peak in flight"), *rows]) if rows else []
    if len({data["stages"] for data in possible}) > 1:
        lines.append(
            "times are per action of one stage: cut into twice as many stages, a model takes "
            "half of them"
        )
    for data in results:
        if "problem" in data:
            lines.append(
                f"{data['schedule']}: {data['problem'].removeprefix(data['schedule'] + ' ')}"
            )
    return "\n".join(lines)


def time_per_step(timeline: Timeline) -> float:
    """From the last end of the second last optimizer step to that of the last; of a single one, the
    makespan.
    """
    steps = timeline.kind == Kind.STEP
    number, ended = timeline.microbatch[steps], timeline.ended[steps]
    last = int(number.max())
    return float(
        ended[number == last].max()
        - (ended[number == last - 1].max() if last else timeline.started.min())
    )


def explanation(timeline: Timeline) -> list[str]:
    """Idle time by cause and rank, and the longest wait that was not forced."""
    causes = {cause: times for cause, times in timeline.idle_by_cause.items() if any(times)}
    open_ones = [i for i in timeline.idle if not i.forced]
    usable = [
        sum(i.end - i.start for i in open_ones if i.rank == rank)
        for rank in range(timeline.schedule.ranks)
    ]
    columns = zip(*causes.values(), timeline.metrics["idle"], usable)
    rows = [(str(rank), *map(text, values)) for rank, values in enumerate(columns)]
    head = ("rank", *causes, "idle", "not forced")
    lines = [
        "idle by cause; not forced: another action of the rank was ready",
        *table([head, *rows]),
    ]
    if open_ones:
        longest = max(open_ones, key=lambda i: i.end - i.start)
        waiting, filler = (
            timeline.schedule.atom(atom) for atom in (longest.ended_by, longest.filler)
        )
        lines.append(
            f"longest not forced: rank {longest.rank} waits from {text(longest.start)} to "
            f"{text(longest.end)} for {waiting} ({longest.cause}), where {filler} could have run"
        )
    return lines


def _memory(timeline: Timeline) -> list[str]:
    peaks = timeline.peak_bytes
    parts = {part: levels for part, levels in peaks["peak_bytes_by_part"].items() if any(levels)}
    columns = zip(peaks["peak_bytes"], *parts.values())
    rows = [
        (str(rank), *(f"{level:,.0f}" for level in levels)) for rank, levels in enumerate(columns)
    ]
    return [
        "bytes at each rank's peak",
        *table([("rank", "peak", *(part.replace("_", " ") for part in parts)), *rows]),
    ]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns aligned to the right; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths)) for row in rows]


def headline(schedule: Schedule) -> str:
    return (
        f"{schedule.name}: {schedule.ranks} ranks, {schedule.stages} stages, "
        f"{schedule.microbatches} micro-batches"
    )


def text(value: float) -> str:
    """33.0 as 33, the rest to six decimals."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
