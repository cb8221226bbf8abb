"""Checks that the exercises share.

Each raises AssertionError with what was expected, what came, and what to think about.
"""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..schedule import Kind, Schedule, check
from ..timeline.metrics import peak_in_flight

seen: list[str] = []
"""Schedules that the running test has looked at, as CSV: the last one is shown with a failure."""


def plain(value: Any, kind: type, what: str) -> Any:
    """``value``, if it is exactly of that type (an int is a float too); an object that only
    pretends to be equal is not.
    """
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise AssertionError(
            f"{what} is a {type(value).__name__}, but it should be a {kind.__name__}"
        )
    return value


def close(value: Any, expected: float, what: str, hints: dict[float, str] | None = None) -> None:
    """Whether a number is right to nine digits. hints: wrong values that tell what went wrong ->
    what to think about.
    """
    value = plain(value, float, what)
    if math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-12):
        return
    hint = next(
        (text for wrong, text in (hints or {}).items() if math.isclose(value, wrong, rel_tol=1e-9)),
        "",
    )
    raise AssertionError(
        f"{what} should be {expected:.6g}, but is {value:.6g}." + f" {hint}" * bool(hint)
    )


def rows_of(rows: Any, ranks: int, what: str) -> list[list[str]]:
    """One list of action texts per rank, as they should be."""
    rows = plain(rows, list, what)
    if len(rows) != ranks:
        raise AssertionError(
            f"{what} should have one row for each of the {ranks} ranks, but has {len(rows)}"
        )
    return [
        [plain(text, str, f"an action of rank {rank}") for text in plain(row, list, f"row {rank}")]
        for rank, row in enumerate(rows)
    ]


def sizes(
    seed: int, count: int = 6, ranks: int = 5, microbatches: int = 8
) -> Iterator[tuple[int, int]]:
    """Pairs of ranks (from 1) and micro-batches (from 1): more micro-batches than ranks, then
    fewer, then drawn.
    """
    draw = random.Random(seed)
    yield from ((4, 6), (5, 3))
    for _ in range(count):
        yield draw.randint(1, ranks), draw.randint(1, microbatches)


def legal(
    rows: Sequence[Iterable[str]], microbatches: int, hints: dict[str, str] | None = None
) -> Schedule:
    """The schedule of these rows, which can run. hints: code of a refusal -> what to think
    about.
    """
    hints, schedule = hints or {}, Schedule.from_rows(rows)
    seen.append(schedule.to_csv())
    count = int(schedule.microbatch.max()) + 1
    refusal = check(schedule)
    if count > microbatches or refusal is None and count < microbatches:
        raise AssertionError(
            f"This schedule goes up to micro-batch {count - 1}, but {microbatches} were asked "
            f"for: 0 to {microbatches - 1}. {hints.get('out-of-range', '')}"
        )
    if refusal:
        raise AssertionError(
            f"This schedule cannot run. {refusal.message}\n{hints.get(refusal.code, '')}"
        )
    return schedule


def same_rows(
    rows: list[list[str]],
    expected: list[list[str]],
    hints: Sequence[tuple[list[list[str]], str]] = (),
) -> None:
    """Whether each rank does the same in the same order. hints: (wrong rows, what to think
    about).
    """
    for rank, (row, right) in enumerate(zip(rows, expected, strict=True)):
        for step, (action, wanted) in enumerate(zip([*row, "nothing"], [*right, "nothing"])):
            if action != wanted:
                hint = next((text for wrong, text in hints if wrong == rows), "")
                raise AssertionError(
                    f"Rank {rank}, step {step} should be {wanted}, but is {action}.\n"
                    f"expected  {' '.join(right)}\n     got  {' '.join(row)}\n{hint}"
                )


def in_flight(schedule: Schedule, rank: int, cap: int, why: str, until: Kind = Kind.I) -> None:
    """At most ``cap`` micro-batches between F and the end of B or ``until`` on a rank."""
    peak = peak_in_flight(schedule, (Kind.B, until))[rank]
    if peak > cap:
        raise AssertionError(
            f"Rank {rank} holds {peak} micro-batches at once, but at most {cap} are allowed. {why}"
        )


def trains(schedule: Schedule) -> None:
    """The real engine runs the schedule, and its gradients are those of the unsplit model."""
    from ..engine import run
    from ..model import workload

    job = workload("mlp", layers=schedule.stages, width=8, batch=2 * schedule.microbatches)
    done = run(job.model, *job.batches(0), job.loss_fn, schedule=schedule, device="cpu")
    if not done.gradient_error <= 1e-5:
        raise AssertionError(
            "run for real, its gradients differ from the unsplit model's by "
            f"{done.gradient_error:.1e}"
        )
