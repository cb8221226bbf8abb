"""Checks that the exercises share.

Each raises AssertionError with what was expected, what came, and what to think about.
"""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..catalogue import build
from ..schedule import Kind, Schedule, check
from ..timeline.metrics import peak_in_flight
from .remote import Handle, NoResult

LARGEST = 1_000_000

seen: list[tuple[str, str]] = []
"""Schedules that the running test has looked at, each with the expected one or "", as CSV: the last
is shown with a failure.
"""


def plain(value: Any, kind: type, what: str) -> Any:
    """Return ``value`` if it is exactly of that type (an int is a float too).

    An object that only pretends to be equal is refused.
    """
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        found = value.type if isinstance(value, Handle) else type(value).__name__
        raise AssertionError(f"{what} is a {found}, but it should be a {kind.__name__}")
    return value


def close(value: Any, expected: float, what: str, hints: dict[float, str] | None = None) -> None:
    """Check that a number is right to nine digits.

    Args:
        value: what came.
        expected: what is right.
        what: its name, for the message.
        hints: wrong values that tell what went wrong -> what to think about.

    Raises:
        AssertionError: it is not right.
    """
    if type(value).__name__ == "Tensor" and value.dim() == 0:
        value = value.item()  # a tensor of one number is one
    value = plain(value, float, what)
    if math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-12):
        return
    message = f"{what} should be {expected:.6g}, but is {value:.6g}."
    for wrong, hint in (hints or {}).items():
        if math.isclose(value, wrong, rel_tol=1e-9):
            raise AssertionError(f"{message} {hint}")
    raise AssertionError(message)


def text_of(path: Path) -> str:
    """The text of a file that is not a program. Raises NoResult for one that cannot be read."""
    if not path.is_file() or path.stat().st_size > LARGEST:
        raise NoResult("cannot be read", f"{path.name} is not a file of at most 1 MB")
    try:
        return path.read_text(encoding="utf-8-sig")
    except ValueError:
        raise NoResult("cannot be read", f"{path.name} is not text in UTF-8") from None


def rows_of(rows: Any, ranks: int, what: str) -> list[list[str]]:
    """Return the rows, if they are one list of action texts per rank."""
    rows = plain(rows, list, what)
    if len(rows) != ranks:
        raise AssertionError(
            f"{what} should have one row for each of the {ranks} ranks, but has {len(rows)}"
        )
    for rank, row in enumerate(rows):
        for text in plain(row, list, f"row {rank}"):
            plain(text, str, f"an action of rank {rank}")
    return [list(row) for row in rows]


NO_CATALOGUE = dict.fromkeys(
    ("pipelab.catalogue", "pipelab.search", "torch.distributed.pipelining"),
    "the exercise is to write the order yourself: the catalogue is closed while it is graded",
)
"""``WITHOUT`` of exercises that ask for an order."""
SIZES = ((4, 6), (3, 12), (1, 4), (2, 2), (5, 5))
"""Ranks and micro-batches: ordinary ones, numbers of two digits, one stage, as many as ranks."""
FEW = ((5, 3), (4, 1), (3, 2))
"""Fewer micro-batches than ranks, down to no micro-batching at all."""


def sizes(
    seed: int, count: int = 3, ranks: int = 5, microbatches: int = 12
) -> Iterator[tuple[int, int]]:
    """Draw pairs of ranks and micro-batches, never fewer micro-batches than ranks."""
    draw = random.Random(seed)
    for _ in range(count):
        drawn = draw.randint(1, ranks)
        yield drawn, draw.randint(drawn, microbatches)


def legal(
    rows: Sequence[Iterable[str]],
    microbatches: int,
    hints: dict[str, str] | None = None,
    expected: Sequence[Iterable[str]] | None = None,
) -> Schedule:
    """Return the schedule of these rows, if it can run.

    ``hints`` are what to think about, by the code of the refusal. ``expected`` rows, where only
    they are right, are shown beside those that fail a test.
    """
    hints, schedule = hints or {}, Schedule.from_rows(rows)
    right = Schedule.from_rows(expected).to_csv() if expected else ""
    seen.append((schedule.to_csv(), right))
    count = int(schedule.microbatch.max()) + 1
    refusal = check(schedule)
    # A refusal says more about missing micro-batches than their number does.
    if count > microbatches or (refusal is None and count < microbatches):
        raise AssertionError(
            f"This schedule goes up to micro-batch {count - 1}, but {microbatches} were asked "
            f"for: 0 to {microbatches - 1}. {hints.get('out-of-range', '')}"
        )
    if refusal:
        raise AssertionError(
            f"This schedule cannot run. {refusal.message}\n{hints.get(refusal.code, '')}"
        )
    return schedule


def catalogue_rows(name: str, **counts: Any) -> list[list[str]]:
    """The rows of a schedule of the catalogue; arguments as for ``pipelab.build``."""
    return [[str(action) for action in row] for row in build(name, **counts).actions]


def one_stage_each(schedule: Schedule, hint: str) -> None:
    """Check that rank r holds stage r, and nothing else."""
    assert dict(schedule.placement) == {(0, rank): rank for rank in range(schedule.ranks)}, hint


def same_rows(
    rows: list[list[str]],
    expected: list[list[str]],
    hints: Sequence[tuple[list[list[str]], str]] = (),
) -> None:
    """Check that each rank does the same in the same order.

    ``hints`` are pairs of wrong rows and what to think about.
    """
    hint = next((text for wrong, text in hints if wrong == rows), "")
    for rank, (row, right) in enumerate(zip(rows, expected, strict=True)):
        # The end counts as an action, so that a row that is too short or too long differs there.
        steps = zip([*row, "nothing"], [*right, "nothing"], strict=False)
        for step, (action, wanted) in enumerate(steps):
            if action != wanted:
                raise AssertionError(
                    f"Rank {rank}, step {step} should be {wanted}, but is {action}.\n"
                    f"expected  {' '.join(right)}\n     got  {' '.join(row)}\n{hint}"
                )


def in_flight(schedule: Schedule, rank: int, cap: int, why: str, until: Kind = Kind.I) -> None:
    """Check how many micro-batches a rank holds, from F to the end of B or ``until``.

    Args:
        schedule: a schedule that can run.
        rank: which rank.
        cap: how many micro-batches it may hold.
        why: why no more, for the message.
        until: what ends a micro-batch where the backward is split: I, or W.

    Raises:
        AssertionError: the rank holds more.
    """
    peak = peak_in_flight(schedule, (Kind.B, until))[rank]
    if peak > cap:
        raise AssertionError(
            f"Rank {rank} holds {peak} micro-batches at once, but at most {cap} are allowed. {why}"
        )


def trains(schedule: Schedule) -> None:
    """Run the schedule for real, and check its gradients against the unsplit model's."""
    from ..engine import run
    from ..model import workload

    job = workload("mlp", layers=schedule.stages, width=8, batch=2 * schedule.microbatches)
    done = run(job.model, *job.batches(0), job.loss_fn, schedule=schedule, device="cpu")
    error = done.gradient_error
    if error is None:
        raise AssertionError(f"its gradients cannot be compared: {done.gradient_note}")
    if not error <= 1e-5:
        raise AssertionError(
            f"run for real, its gradients differ from the unsplit model's by {error:.1e}"
        )
