"""What the widget of the planner says of a Plan, and of one of its rows."""

from typing import Any

from ..layout.planner import Plan
from ..layout.planner.reasons import short
from .rank_memory import amount

NEXT = 3
"""Rows after the best of which is said why they lose."""
LETTERS = (
    "t tensor, p pipeline, d data: GPUs of each group. v stages per rank, b samples of a "
    "micro-batch, m micro-batches of a copy."
)


def big_numbers(found: Plan, *, fixed: bool) -> list[dict[str, str]]:
    """The best row, and the search, for the large numbers."""
    best = found.rows[0]
    one, ranks = best.estimate, best.layout.pipeline
    return [
        {
            "label": f"a step of the best, batch {best.layout.batch}",
            "value": seconds(one.seconds),
            "caption": f"{one.mfu:.1%} of the peak (MFU)",
        },
        {
            "label": "its fullest GPU",
            "value": amount(one.bytes["total"]),
            "caption": f"of {found.machine.memory:g} GB: {FITS[one.fits]}",
        },
        {
            "label": "pipeline needed",
            "value": "fixed" if fixed else found.pipeline_needed["answer"],
            "caption": "the best has none" if ranks == 1 else f"the best has {ranks} ranks",
        },
        {
            "label": "layouts searched",
            "value": str(found.searched),
            "caption": f"{len(found.rows)} fit; {found.seconds_searching:.2f} s",
        },
    ]


FITS = {"yes": "it fits", "tight": "it is tight", "no": "it does not fit"}


def seconds(value: float, digits: int = 4) -> str:
    """Of a step.

    >>> seconds(66.155), seconds(0.01234), seconds(120.0, 3)
    ('66.16 s', '12.34 ms', '120 s')
    """
    number, unit = (value, "s") if value >= 0.1 else (1e3 * value, "ms")
    return f"{f'{number:#.{digits}g}'.rstrip('.')} {unit}"


def needed(found: Plan, *, fixed: bool) -> str:
    """Whether a pipeline is needed, and why; not where its size is fixed."""
    if fixed:
        ranks = found.rows[0].layout.pipeline
        return f"pipeline is fixed at {ranks}. Let it be free to see whether one is needed."
    words = {
        "yes": "A pipeline is needed.",
        "no": "No pipeline is needed.",
        "optional": "A pipeline is optional.",
    }
    answer = found.pipeline_needed
    return " ".join([words[answer["answer"]], *answer["because"]])


def rejected(found: Plan) -> list[str]:
    """The reasons of those that are not in the table, most frequent first."""
    return [f"{count} × {reason}" for reason, count in found.rejected.items()]


def told(found: Plan, number: int) -> str:
    """A row as it is spoken."""
    row = found.rows[number]
    layout, one = row.layout, row.estimate
    schedule = f"{layout.schedule}, " if layout.pipeline > 1 else ""
    return (
        f"row {number + 1} of {len(found.rows)}, band {row.band}: tensor {layout.tensor}, pipeline "
        f"{layout.pipeline}, data {layout.data}, stages per rank {layout.stages_per_rank}, "
        f"{layout.microbatches} micro-batches of {layout.microbatch}, {schedule}recompute "
        f"{layout.recompute}, ZeRO {layout.zero}; {seconds(one.seconds)}, "
        f"{one.bytes['total'] / 1e9:.1f} GB, {FITS[one.fits]}"
    )


def reasons(found: Plan, number: int) -> dict[str, Any]:
    """Of the best: why the next ones lose. Of another: what it loses. In the words of ``why``."""
    rows = found.rows
    title = f"Row {number + 1}: {short(rows[number].layout)}"
    simulated = rows[number].simulated
    if simulated is not None:
        took = seconds(rows[number].estimate.seconds)
        title += f". Its real schedule, simulated, takes {seconds(simulated)}; the formula {took}"
    told_of_it: dict[str, Any] = {"title": f"{title}.", "parts": _parts(found, number)}
    if number:
        lines = [*found.why(number).sentences, _held(found, number)]
        return told_of_it | {"lead": "Against the best:", "lines": lines}
    if len(rows) == 1:
        return told_of_it | {"lead": "It is the only layout that fits.", "lines": []}
    lines = []
    for other in _next(found):
        which = f"Row {other + 1}"
        if rows[other - 1].band < rows[other].band:
            which += f", the first of band {rows[other].band}"
        said = " ".join([*found.why(other).sentences[:2], _held(found, other)])
        lines.append(f"{which}, {said}")
    by = "in time, by the largest part:" if found.objective == "time" else "in memory:"
    return told_of_it | {"lead": f"Why the next ones lose {by}", "lines": lines}


def _parts(found: Plan, number: int) -> str:
    """The bars of a row in numbers."""
    one = found.rows[number].estimate
    times = [f"{name} {seconds(took)}" for name, took in one.seconds_by_part.items() if took > 0]
    held = [
        f"{name} {amount(size)}" for name, size in one.bytes.items() if size and name != "total"
    ]
    return f"A step: {', '.join(times)}. The fullest GPU: {', '.join(held)}."


def _held(found: Plan, number: int) -> str:
    mine, best = (found.rows[i].estimate.bytes["total"] / 1e9 for i in (number, 0))
    if abs(mine - best) < 0.05:
        return f"memory: {mine:.1f} GB on the fullest GPU, as the best."
    return f"memory: {mine:.1f} GB on the fullest GPU instead of {best:.1f}."


def _next(found: Plan) -> list[int]:
    """The rows after the best, and the first that can be told apart from it."""
    last = len(found.rows)
    apart = next((i for i, row in enumerate(found.rows) if row.band > 1), last)
    near = list(range(1, min(NEXT + 1, last)))
    return near if apart in near or apart == last else [*near, apart]
