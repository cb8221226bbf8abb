"""`pipelab simulate`: from a Schedule and flags to a Timeline, and what to say about it."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..schedule import Kind, Schedule
from ..timeline import Timeline
from .arguments import costs_of, memory_of

if TYPE_CHECKING:
    from ..search import Found

COMPARED = ("makespan", "bubble_fraction", "bubble_overhead", "bubble_rate")


def predict(schedule: Schedule, args: argparse.Namespace) -> Timeline:
    """Simulate the schedule as the flags of ``schedule`` or ``simulate`` say.

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


def as_data(timeline: Timeline, found: "Found | None", args: argparse.Namespace) -> dict[str, Any]:
    """What ``simulate --json`` prints: the metrics, and what the flags ask for in addition."""
    data = dict(timeline.metrics)
    if found:
        data |= {
            "objective": found.objective,
            "lower_bound": found.lower_bound,
            "gap": found.gap,
            "bound_is_weak": found.bound_is_weak,
        }
    if args.optimizer:
        data["time_per_step"] = time_per_step(timeline)
    if timeline.memory:
        data |= timeline.peak_bytes
    if args.explain:
        data["idle_by_cause"] = timeline.idle_by_cause
    return data


def as_text(timeline: Timeline, found: "Found | None", args: argparse.Namespace) -> str:
    """The text of a simulation for a person."""
    from ..timeline.text import draw

    metrics = timeline.metrics
    rows = [["rank", "span", "idle", "peak in flight", "until weight grad"]]
    names = ("spans", "idle", "peak_in_flight", "peak_in_flight_until_weight_grad")
    for rank, values in enumerate(zip(*(metrics[name] for name in names), strict=True)):
        rows.append([str(rank), *map(text, values)])
    lines = [headline(timeline.schedule), f"makespan         {text(metrics['makespan'])}"]
    if args.optimizer:
        lines.append(
            f"time_per_step    {text(time_per_step(timeline))}  from the end of one step to the "
            "end of the next"
        )
    if found:
        proven = ": this is the optimum" if found.proven else ""
        what = "makespan" if found.objective == "makespan" else "longest span"
        if found.objective == "span":
            lines.append(f"longest span     {text(found.length)}  what was searched for")
        lines += [
            f"lower_bound      {text(found.lower_bound)}  no order of F, B, I and W within this "
            "memory takes less",
            f"gap              {text(found.gap)}  {what} / lower_bound − 1{proven}",
        ]
        if found.bound_is_weak:
            lines.append(
                "                 the bound is weak here: on a V with less memory than 1F1B's, the "
                "best possible may be far above it"
            )
    lines += [
        f"bubble_fraction  {text(metrics['bubble_fraction'])}  idle / (ranks × makespan)",
        f"bubble_overhead  {text(metrics['bubble_overhead'])}  idle / busy",
        f"bubble_rate      {text(metrics['bubble_rate'])}  1 − busy/span, on the rank with the "
        "longest span",
        *table(rows),
    ]
    if timeline.memory:
        lines += _memory(timeline)
    if args.timeline:
        lines.append(draw(timeline))
    if args.explain:
        lines += explanation(timeline)
    return "\n".join(lines)


def comparison(results: Sequence[dict[str, Any]]) -> str:
    """Several schedules, a line each; for one that is impossible, the reason."""
    possible = [data for data in results if "problem" not in data]
    rows = [["schedule", "stages", *COMPARED, "peak in flight"]]
    for data in possible:
        numbers = [text(data[key]) for key in COMPARED]
        rows.append([data["schedule"], str(data["stages"]), *numbers])
        rows[-1].append(str(max(data["peak_in_flight"])))
    lines = table(rows) if possible else []
    if len({data["stages"] for data in possible}) > 1:
        lines.append(
            "times are per action of one stage: cut into twice as many stages, a model takes "
            "half of them"
        )
    for data in results:
        if "problem" in data:
            name = data["schedule"]
            lines.append(f"{name}: {data['problem'].removeprefix(name + ' ')}")
    return "\n".join(lines)


def time_per_step(timeline: Timeline) -> float:
    """From the end of the step before the last to the end of the last.

    A single step takes the makespan.
    """
    steps = timeline.kind == Kind.STEP
    number, ended = timeline.microbatch[steps], timeline.ended[steps]
    last = int(number.max())
    begin = ended[number == last - 1].max() if last else timeline.started.min()
    return float(ended[number == last].max() - begin)


def explanation(timeline: Timeline) -> list[str]:
    """Idle time by cause and rank, and the longest wait that was not forced."""
    tiny = 1e-9 * timeline.makespan  # less is the rounding of sums
    found = timeline.idle_by_cause.items()
    causes = {cause: times for cause, times in found if max(times) > tiny}
    unforced = [idle for idle in timeline.idle if not idle.forced]
    usable = [0.0] * timeline.schedule.ranks
    for idle in unforced:
        usable[idle.rank] += idle.end - idle.start
    rows = [["rank", *causes, "idle", "not forced"]]
    columns = zip(*causes.values(), timeline.metrics["idle"], usable, strict=True)
    for rank, values in enumerate(columns):
        rows.append([str(rank), *map(text, values)])
    lines = ["idle by cause; not forced: another action of the rank was ready", *table(rows)]
    if unforced:
        longest = max(unforced, key=lambda idle: idle.end - idle.start)
        waiting = _action(timeline, longest.ended_by)
        filler = _action(timeline, longest.filler)
        lines.append(
            f"longest not forced: rank {longest.rank} waits from {text(longest.start)} to "
            f"{text(longest.end)} for {waiting} ({longest.cause}), where {filler} could have run"
        )
    return lines


def _action(timeline: Timeline, atom: int | None) -> str:
    return "nothing" if atom is None else str(timeline.schedule.atom(atom))


def _memory(timeline: Timeline) -> list[str]:
    peaks = timeline.peak_bytes
    parts = {part: levels for part, levels in peaks["peak_bytes_by_part"].items() if any(levels)}
    rows = [["rank", "peak", *(part.replace("_", " ") for part in parts)]]
    for rank, levels in enumerate(zip(peaks["peak_bytes"], *parts.values(), strict=True)):
        rows.append([str(rank), *(f"{level:,.0f}" for level in levels)])
    return ["bytes at each rank's peak", *table(rows)]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns aligned to the right; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells))
    return lines


def headline(schedule: Schedule) -> str:
    """The schedule's name and sizes."""
    return (
        f"{schedule.name}: {schedule.ranks} ranks, {schedule.stages} stages, "
        f"{schedule.microbatches} micro-batches"
    )


def text(value: float) -> str:
    """33.0 as 33, the rest to six decimals."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
