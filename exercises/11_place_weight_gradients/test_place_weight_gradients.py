"""Exercise 11. Any placement counts that is as short and holds as little; it is simulated, and really trains."""

import pytest

import pipelab
from pipelab import Costs, Kind
from pipelab.grading.checks import NO_CATALOGUE, catalogue_rows, in_flight, legal, rows_of, sizes, trains

READ = "Read again: notebook 05 (Zero bubble and after), section “ZB-H1 and its family”."
WITHOUT = NO_CATALOGUE
HINTS = {
    "missing": f"Every I has its W, on the same rank, also those that are left at the end. {READ}",
    "duplicate": f"Every I has one W. {READ}",
    "order": f"A W uses the gradient that its I brought: it comes after it. {READ}",
    "mixed-backward": f"B is I and W in one; here they are apart. {READ}",
}
EQUAL = Costs(1, input_grad=1, weight_grad=1)


CASES = ((4, 8), (2, 2), (3, 11), (1, 3), (6, 6))
"""Ranks and micro-batches, never fewer micro-batches than ranks."""


def given(ranks, microbatches):
    rows = catalogue_rows("1f1b", ranks=ranks, microbatches=microbatches)
    return [[action.replace("B", "I") for action in row] for row in rows]


def placed(student, p, m):
    """(rows, the schedule that they are)"""
    rows = rows_of(student.place_w(given(p, m)), p, f"place_w(…) of {p} ranks and {m} micro-batches")
    return rows, legal(rows, m, HINTS)


@pytest.mark.points(1, "every W once, after its I; F and I stay in their order")
def test_legal(student, student_seed, case):
    for p, m in case.each(CASES, sizes(student_seed)):
        with case:
            for rank, (row, before) in enumerate(zip(placed(student, p, m)[0], given(p, m))):
                kept = [action for action in row if "W" not in action]
                assert kept == before, (
                    f"The F's and I's of rank {rank} should stay as they were.\n"
                    f"expected  {' '.join(before)}\n     got  {' '.join(kept)}\nOnly W's are put in: another order of F and I "
                    f"holds more, or makes other ranks wait. {READ}"
                )
                assert len(row) == 3 * m, f"Rank {rank} should have {m} W's, one for each I, but has {len(row) - len(kept)}. {READ}"


@pytest.mark.points(2, "no more than p micro-batches held until their W")
def test_memory(student, student_seed, case):
    for p, m in case.each(CASES, sizes(student_seed + 1)):
        why = f"An I frees only a part; put off W's until the end, and all {m} micro-batches are held. {READ}"
        with case:
            _, schedule = placed(student, p, m)
            for rank in range(p):
                in_flight(schedule, rank, p, why, until=Kind.W)


@pytest.mark.points(3, "the makespan of ZB-H1")
def test_makespan(student, student_seed, credit, case):
    shares = []
    for p, m in case.each(CASES, sizes(student_seed + 2)):
        floor, plain_1f1b = 3 * m + p - 1, 3 * (m + p - 1)
        with case:
            found = pipelab.simulate(placed(student, p, m)[1], EQUAL).makespan
            if p > 1:
                shares.append(max(0.0, min(1.0, (plain_1f1b - found) / (plain_1f1b - floor))))
            at_once = ""
            if found == 3 * m + 2 * (p - 1):
                at_once = "That is what W right after its I gives: a later rank does W's while those before it wait for its next I. "
            assert found <= floor + 1e-9, (
                f"{p} ranks, {m} micro-batches, F = I = W = 1: the makespan should be {floor}, but is {found:g} (1F1B: "
                f"{plain_1f1b}). {at_once}Let a later rank do its first I's without their W's, and a rank that waits for a gradient "
                f"do a W. {READ}"
            )
    if shares:
        part = sum(shares) / len(shares)
        credit(0.5 * part, f"{part:.0%} of the way from 1F1B to ZB-H1.")


@pytest.mark.points(1, "it trains a model in worker processes")
def test_it_trains(student, case):
    for ranks, microbatches in case.each(((2, 3), (3, 4))):
        with case:
            trains(placed(student, ranks, microbatches)[1])
