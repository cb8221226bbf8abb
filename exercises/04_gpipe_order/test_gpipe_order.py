"""Exercise 04. Sizes of their own for every student; the order is executed by worker processes."""

import pytest

import pipelab
from pipelab.grading.checks import close, legal, rows_of, same_rows, sizes, trains

READ = "Read again: notebook 02 (Micro-batches and GPipe), section “The GPipe order”."
HINTS = {
    "wrong-rank": f"Rank r holds stage r: all of its actions begin with r. {READ}",
    "duplicate": f"Rank r holds stage r: all of its actions begin with r. {READ}",
    "missing": f"Each micro-batch has one F and one B on every rank. {READ}",
    "out-of-range": f"Micro-batches are numbered from 0: range(microbatches). {READ}",
    "order": f"A backward needs what its own forward kept. {READ}",
}


def schedules(student, seed):
    for ranks, microbatches in sizes(seed):
        rows = rows_of(student.gpipe_order(ranks, microbatches), ranks, f"gpipe_order({ranks}, {microbatches})")
        yield rows, legal(rows, microbatches, HINTS)


@pytest.mark.points(1, "every action once, on its rank")
def test_it_can_run(student, student_seed):
    for rows, schedule in schedules(student, student_seed):
        assert dict(schedule.placement) == {(0, rank): rank for rank in range(len(rows))}, HINTS["wrong-rank"]


@pytest.mark.points(2, "all forwards come before the first backward")
def test_forwards_first(student, student_seed):
    for rows, schedule in schedules(student, student_seed + 1):
        for rank, row in enumerate(rows):
            kinds = "".join(action.lstrip("0123456789")[0] for action in row)
            assert kinds == "F" * schedule.microbatches + "B" * schedule.microbatches, (
                f"The kinds on rank {rank} should be {schedule.microbatches} F, then as many B, but are {kinds}. A rank that "
                f"goes back before all micro-batches went forward lets the ranks behind it run dry. {READ}"
            )


@pytest.mark.points(1, "forwards and backwards both first in, first out")
def test_first_in_first_out(student, student_seed, credit):
    for rows, schedule in schedules(student, student_seed + 2):
        right = pipelab.build("gpipe", ranks=schedule.ranks, microbatches=schedule.microbatches)
        right = [[str(action) for action in row] for row in right.actions]
        half = schedule.microbatches
        back = [row[:half] + row[half:][::-1] for row in right]
        if rows == back != right:
            credit(0.5, "The order runs, as fast and with as much memory:")
        text = f"The backwards are last in, first out; asked for is first in, first out, as in torch's ScheduleGPipe. {READ}"
        same_rows(rows, right, [(back, text)])


@pytest.mark.points(1, "makespan (m + p − 1)(F + B)")
def test_makespan(student, student_seed):
    for _, schedule in schedules(student, student_seed + 3):
        p, m = schedule.ranks, schedule.microbatches
        hint = f"That is one micro-batch after the other through all ranks, as without a pipeline. {READ}"
        close(
            pipelab.simulate(schedule).metrics["makespan"], 3.0 * (m + p - 1), f"with F = 1 and B = 2 the makespan of {p} × {m}",
            {3.0 * m * p: hint},
        )  # fmt: skip


@pytest.mark.points(1, "it trains a model in worker processes")
def test_it_trains(student):
    for ranks, microbatches in ((2, 3), (3, 2)):
        rows = rows_of(student.gpipe_order(ranks, microbatches), ranks, "gpipe_order")
        trains(legal(rows, microbatches, HINTS))
