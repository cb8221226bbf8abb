"""Exercise 04. Sizes of their own for every student; the order is executed by worker processes."""

import pytest

import pipelab
from pipelab.grading.checks import (
    FEW,
    NO_CATALOGUE,
    SIZES,
    catalogue_rows,
    close,
    legal,
    one_stage_each,
    rows_of,
    same_rows,
    sizes,
    trains,
)

READ = "Read again: notebook 02 (Micro-batches and GPipe), section “The GPipe order”."
WITHOUT = NO_CATALOGUE
HINTS = {
    "wrong-rank": f"Rank r holds stage r: all of its actions begin with r. {READ}",
    "duplicate": f"Rank r holds stage r: all of its actions begin with r. {READ}",
    "missing": f"Each micro-batch has one F and one B on every rank. {READ}",
    "out-of-range": f"Micro-batches are numbered from 0: range(microbatches). {READ}",
    "order": f"A backward needs what its own forward kept. {READ}",
}


def order_of(student, ranks, microbatches):
    """(rows, the schedule that they are)"""
    rows = rows_of(student.gpipe_order(ranks, microbatches), ranks, f"gpipe_order({ranks}, {microbatches})")
    right = catalogue_rows("gpipe", ranks=ranks, microbatches=microbatches)
    return rows, legal(rows, microbatches, HINTS, right)


@pytest.mark.points(1, "every action once, on its rank")
def test_it_can_run(student, student_seed, case):
    for ranks, microbatches in case.each(SIZES, sizes(student_seed)):
        with case:
            one_stage_each(order_of(student, ranks, microbatches)[1], HINTS["wrong-rank"])


@pytest.mark.points(1, "fewer micro-batches than ranks, down to one")
def test_few(student, case):
    for ranks, microbatches in case.each(FEW):
        with case:
            one_stage_each(order_of(student, ranks, microbatches)[1], HINTS["wrong-rank"])


@pytest.mark.points(1, "all forwards come before the first backward")
def test_forwards_first(student, student_seed, case):
    for ranks, microbatches in case.each(SIZES, sizes(student_seed + 1)):
        with case:
            rows, _ = order_of(student, ranks, microbatches)
            for rank, row in enumerate(rows):
                kinds = "".join(action.lstrip("0123456789")[0] for action in row)
                assert kinds == "F" * microbatches + "B" * microbatches, (
                    f"The kinds on rank {rank} should be {microbatches} F, then as many B, but are {kinds}. A rank that goes back "
                    f"before all micro-batches went forward lets the ranks behind it run dry. {READ}"
                )


@pytest.mark.points(1, "forwards and backwards both first in, first out")
def test_first_in_first_out(student, student_seed, credit, case):
    for ranks, microbatches in case.each(SIZES, sizes(student_seed + 2)):
        with case:
            rows, _ = order_of(student, ranks, microbatches)
            right = catalogue_rows("gpipe", ranks=ranks, microbatches=microbatches)
            back = [row[:microbatches] + row[microbatches:][::-1] for row in right]
            if rows == back != right:
                credit(0.5, "The order runs, as fast and with as much memory:")
            text = f"The backwards are last in, first out; asked for is first in, first out, as in torch's ScheduleGPipe. {READ}"
            same_rows(rows, right, [(back, text)])


@pytest.mark.points(1, "makespan (m + p − 1)(F + B)")
def test_makespan(student, student_seed, case):
    for p, m in case.each(SIZES, sizes(student_seed + 3)):
        hint = f"That is one micro-batch after the other through all ranks, as without a pipeline. {READ}"
        with case:
            _, schedule = order_of(student, p, m)
            found = pipelab.simulate(schedule).metrics["makespan"]
            close(found, 3.0 * (m + p - 1), f"with F = 1 and B = 2 the makespan of {p} × {m}", {3.0 * m * p: hint})


@pytest.mark.points(1, "it trains a model in worker processes")
def test_it_trains(student):
    trains(order_of(student, 3, 4)[1])
