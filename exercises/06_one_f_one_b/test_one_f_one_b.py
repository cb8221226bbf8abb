"""Exercise 06. Sizes of their own for every student, fewer micro-batches than ranks among them; the order really trains."""

import pytest

import pipelab
from pipelab.grading.checks import (
    FEW,
    NO_CATALOGUE,
    SIZES,
    catalogue_rows,
    close,
    in_flight,
    legal,
    one_stage_each,
    rows_of,
    same_rows,
    sizes,
    trains,
)

READ = "Read again: notebook 03 (1F1B and the memory wall), section “Warm-up, steady state, cool-down”."
WITHOUT = NO_CATALOGUE
SHORTER = f"With fewer micro-batches than ranks the warm-up is shorter: a rank cannot send forward more than m. {READ}"
HINTS = {
    "wrong-rank": f"Rank s holds stage s: all of its actions begin with s. {READ}",
    "missing": f"After the last F some backwards are left, as many as the warm-up had forwards: the cool-down. {READ}",
    "out-of-range": SHORTER,
    "order": f"F comes first in each pair: on the last rank a backward follows its own forward. {READ}",
    "deadlock": f"A rank waits for a gradient that only comes after a forward that it has not sent. {READ}",
}


def order_of(student, ranks, microbatches):
    """(rows, the schedule that they are)"""
    rows = rows_of(student.one_f_one_b(ranks, microbatches), ranks, f"one_f_one_b({ranks}, {microbatches})")
    right = catalogue_rows("1f1b", ranks=ranks, microbatches=microbatches)
    return rows, legal(rows, microbatches, HINTS, right)


def warm_ups(rows):
    """Forwards before the first backward, of each rank."""
    return [next(step for step, action in enumerate(row) if "B" in action) for row in rows]


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


@pytest.mark.points(2, "warm-up: min(m, p − s) forwards before the first backward")
def test_warm_up(student, student_seed, case):
    for p, m in case.each(SIZES, sizes(student_seed + 1)):
        with case:
            for s, count in enumerate(warm_ups(order_of(student, p, m)[0])):
                hints = {
                    min(m, p - s + 1): "That is one too many: the first F of the steady state is the last before the first B.",
                    min(m, p): "That is the first rank's number: a rank further on has fewer ranks behind it.",
                    min(m, s + 1): "That counts the ranks before this one; what matters are the ranks behind it.",
                    max(1, p - s - 1): "That is one too few: after the warm-up of p − s − 1 forwards, F comes before B.",
                    m: "All forwards first is GPipe.",
                }
                assert count == min(m, p - s), (
                    f"Rank {s} of {p}, {m} micro-batches: before the first B should stand {min(m, p - s)} F, but there are "
                    f"{count}. {hints.get(count, '')} {READ}"
                )


@pytest.mark.points(1, "memory: at most min(m, p − s) micro-batches in flight on rank s")
def test_memory(student, student_seed, case):
    for p, m in case.each(SIZES, sizes(student_seed + 2)):
        text = f"1F1B holds no more than the ranks from here to the end: p − s, with {p} ranks. GPipe would hold {m}. {READ}"
        with case:
            _, schedule = order_of(student, p, m)
            for s in range(p):
                in_flight(schedule, s, min(m, p - s), text)


@pytest.mark.points(1, "makespan (m + p − 1)(F + B), as GPipe's")
def test_makespan(student, student_seed, case):
    for p, m in case.each(SIZES, sizes(student_seed + 3)):
        with case:
            rows, schedule = order_of(student, p, m)
            found = pipelab.simulate(schedule).metrics["makespan"]
            what = f"with F = 1 and B = 2 the makespan of {p} ranks and {m} micro-batches"
            short = any(count < min(m, p - s) for s, count in enumerate(warm_ups(rows)))
            text = "Some rank warms up too little: the ranks behind it then wait for work." if short else ""
            close(found, 3.0 * (m + p - 1), what, {found: f"{text} {READ}"})


@pytest.mark.points(1, "one F, one B in turn, both first in, first out")
def test_order(student, student_seed, case):
    for p, m in case.each(SIZES, sizes(student_seed + 4)):
        with case:
            rows, _ = order_of(student, p, m)
            same_rows(rows, catalogue_rows("1f1b", ranks=p, microbatches=m), [(rows, f"Forwards and backwards both begin with micro-batch 0, first in, first out. {READ}")])


@pytest.mark.points(1, "it trains a model in worker processes")
def test_it_trains(student):
    trains(order_of(student, 3, 4)[1])
