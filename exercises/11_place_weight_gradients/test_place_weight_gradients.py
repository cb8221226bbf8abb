"""Exercise 11. Any placement counts that is as short and holds as little; it is simulated, and really trains."""

import copy
import random

import pytest

import pipelab
from pipelab import Costs, Kind
from pipelab.grading.checks import in_flight, legal, rows_of, trains

READ = "Read again: notebook 05 (Zero bubble and after), section “ZB-H1 and its family”."
HINTS = {
    "missing": f"Every I has its W, on the same rank, also those that are left at the end. {READ}",
    "duplicate": f"Every I has one W. {READ}",
    "order": f"A W uses the gradient that its I brought: it comes after it. {READ}",
    "mixed-backward": f"B is I and W in one; here they are apart. {READ}",
}
EQUAL = Costs(1, input_grad=1, weight_grad=1)


def cases(seed, count=5):
    """(ranks, micro-batches), never fewer micro-batches than ranks."""
    draw = random.Random(seed)
    yield from ((4, 8), (2, 2))
    for _ in range(count):
        ranks = draw.randint(2, 6)
        yield ranks, draw.randint(ranks, 12)


def given(ranks, microbatches):
    rows = pipelab.build("1f1b", ranks=ranks, microbatches=microbatches).actions
    return [[str(action).replace("B", "I") for action in row] for row in rows]


def schedules(student, seed):
    for p, m in cases(seed):
        rows = rows_of(student.place_w(copy.deepcopy(given(p, m))), p, f"place_w(…) of {p} ranks and {m} micro-batches")
        yield p, m, rows, legal(rows, m, HINTS)


@pytest.mark.points(1, "every W once, after its I; F and I stay in their order")
def test_legal(student, student_seed):
    for p, m, rows, _ in schedules(student, student_seed):
        for rank, (row, before) in enumerate(zip(rows, given(p, m))):
            kept = [action for action in row if "W" not in action]
            assert kept == before, (
                f"The F's and I's of rank {rank} should stay as they were.\n"
                f"expected  {' '.join(before)}\n     got  {' '.join(kept)}\nOnly W's are put in: another order of F and I holds more, or makes other ranks wait. {READ}"
            )
            assert len(row) == 3 * m, f"Rank {rank} should have {m} W's, one for each I, but has {len(row) - len(kept)}. {READ}"


@pytest.mark.points(2, "no more than p micro-batches held until their W")
def test_memory(student, student_seed):
    for p, m, _, schedule in schedules(student, student_seed + 1):
        for rank in range(p):
            why = f"An I frees only a part; put off W's until the end, and all {m} micro-batches are held. {READ}"
            in_flight(schedule, rank, p, why, until=Kind.W)


@pytest.mark.points(3, "the makespan of ZB-H1")
def test_makespan(student, student_seed, credit):
    shares = []
    for p, m, _, schedule in schedules(student, student_seed + 2):
        found, floor, plain_1f1b = pipelab.simulate(schedule, EQUAL).makespan, 3 * m + p - 1, 3 * (m + p - 1)
        shares.append(max(0.0, min(1.0, (plain_1f1b - found) / (plain_1f1b - floor))))
        if found > floor + 1e-9:
            worst = (p, m, found, floor, plain_1f1b)
    if min(shares) < 1:
        p, m, found, floor, plain_1f1b = worst
        credit(0.5 * sum(shares) / len(shares), f"{sum(shares) / len(shares):.0%} of the way from 1F1B to ZB-H1.")
        at_once = "That is what W right after its I gives: a later rank does W's while the ranks before it wait for its next I. "
        raise AssertionError(
            f"{p} ranks, {m} micro-batches, F = I = W = 1: the makespan should be {floor}, but is {found:g} (1F1B: {plain_1f1b}). "
            f"{at_once * (found == 3 * m + 2 * (p - 1))}Let a later rank do its first I's without their W's, and a rank that "
            f"waits for a gradient do a W. {READ}"
        )


@pytest.mark.points(1, "it trains a model in worker processes")
def test_it_trains(student):
    for ranks, microbatches in ((2, 3), (3, 4)):
        rows = rows_of(student.place_w(given(ranks, microbatches)), ranks, "place_w(…)")
        trains(legal(rows, microbatches, HINTS))
