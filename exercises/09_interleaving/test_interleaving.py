"""Exercise 09. Ranks, chunks and rounds of their own for every student; the order is executed by worker processes."""

import random

import pytest

import pipelab
from pipelab.grading.checks import NO_CATALOGUE, catalogue_rows, close, legal, plain, rows_of, same_rows, trains

READ = "Read again: notebook 04 (Interleaving), section “The warm-up count”."
WITHOUT = NO_CATALOGUE
HINTS = {
    "wrong-rank": f"Actions name the stage: chunk c of rank s is stage c · p + s. {READ}",
    "duplicate": f"Actions name the stage: chunk c of rank s is stage c · p + s. {READ}",
    "missing": f"Every micro-batch passes every chunk, forward and back; after the last F the other B's follow. {READ}",
    "out-of-range": f"Micro-batches are numbered from 0; each rank sends v · m forwards, not more. {READ}",
    "order": f"A backward needs its own forward: the last rank warms up with p forwards for each chunk but the first. {READ}",
    "deadlock": f"Backwards take the last chunk first, and the warm-up is longer the further in front a rank is. {READ}",
}


CASES = ((4, 2, 8), (2, 3, 2), (3, 2, 12), (1, 2, 3), (4, 1, 4), (4, 2, 4))
"""Ranks, stages per rank, micro-batches: ordinary ones, numbers of two digits, one rank, one stage a rank, one group."""


def cases(seed, count=3):
    """Draw ranks, stages per rank, micro-batches."""
    draw = random.Random(seed)
    for _ in range(count):
        ranks = draw.randint(1, 4)
        yield ranks, draw.randint(1, 3), ranks * draw.randint(1, 3)


def order_of(student, p, v, m):
    """(rows, the schedule that they are)"""
    rows = rows_of(student.interleaved_order(p, v, m), p, f"interleaved_order({p}, {v}, {m})")
    return rows, legal(rows, m, HINTS, right_rows(p, v, m))


def right_rows(p, v, m):
    return catalogue_rows("interleaved-1f1b", ranks=p, stages_per_rank=v, microbatches=m)


def only(kind, rows):
    return [[action for action in row if kind in action] for row in rows]


def chunks_of(rows):
    """The stages of the actions alone, in order."""
    return [[action.split("B")[0] for action in row] for row in rows]


@pytest.mark.points(2, "the warm-up count")
def test_warm_up(student, student_seed, case):
    for p, v, m in case.each(CASES, cases(student_seed)):
        with case:
            for s in range(p):
                right = min(v * m, 2 * (p - s - 1) + (v - 1) * p)
                count = plain(student.warm_up(s, p, v, m), int, f"warm_up({s}, {p}, {v}, {m})")
                hints = {
                    min(v * m, p - s - 1 + (v - 1) * p): "Two for each rank behind: one on its way there, one on its way back.",
                    min(v * m, 2 * (p - s - 1)): "Each chunk but the first needs another p forwards.",
                    min(v * m, 2 * (p - s - 1) + v * p): "The first chunk needs none of the p: (v − 1) · p.",
                    min(v * m, 2 * (p - s) + (v - 1) * p): "The ranks behind rank s are p − s − 1.",
                    2 * (p - s - 1) + (v - 1) * p: "A rank cannot send forward more than it has: v · m.",
                    min(v * m, 2 * s + (v - 1) * p): "That counts the ranks before this one; what matters are the ranks behind it.",
                }
                assert count == right, (
                    f"Rank {s} of {p}, {v} stages per rank, {m} micro-batches: the warm-up should be {right}, but is {count}. "
                    f"{hints.get(count, '')} {READ}"
                )


@pytest.mark.points(1, "every action once, on its rank, free of deadlock")
def test_it_can_run(student, student_seed, case):
    for p, v, m in case.each(CASES, cases(student_seed + 1)):
        with case:
            _, schedule = order_of(student, p, v, m)
            assert schedule.stages == p * v, f"{p} ranks with {v} stages each have {p * v} stages, not {schedule.stages}. {READ}"


@pytest.mark.points(1, "forwards in groups of p, chunk after chunk")
def test_forwards(student, student_seed, case):
    for p, v, m in case.each(CASES, cases(student_seed + 2)):
        breadth = [[f"{c * p + s}F{i}" for c in range(v) for i in range(m)] for s in range(p)]
        depth = [[f"{c * p + s}F{i}" for i in range(m) for c in range(v)] for s in range(p)]
        hints = [
            (breadth, f"That is breadth first, all micro-batches through a chunk: it holds all in memory. Groups of p. {READ}"),
            (depth, f"That is one micro-batch through all chunks: it waits for the other ranks each time. Groups of p. {READ}"),
        ]
        with case:
            same_rows(only("F", order_of(student, p, v, m)[0]), only("F", right_rows(p, v, m)), hints)


@pytest.mark.points(1, "backwards in groups of p, the last chunk first")
def test_backwards(student, student_seed, case):
    for p, v, m in case.each(CASES, cases(student_seed + 3)):
        with case:
            backwards, right = (only("B", rows) for rows in (order_of(student, p, v, m)[0], right_rows(p, v, m)))
            hint = "The gradient comes from the last stage: its chunk goes back first."
            if chunks_of(backwards) == chunks_of(right):
                hint = "Within a group the order of the micro-batches is first in, first out."
            same_rows(backwards, right, [(backwards, f"{hint} {READ}")])


@pytest.mark.points(1, "warm-up, F and B in turn, the rest of the backwards")
def test_order(student, student_seed, case):
    for p, v, m in case.each(CASES, cases(student_seed + 4)):
        with case:
            rows, _ = order_of(student, p, v, m)
            same_rows(rows, right_rows(p, v, m), [(rows, f"After warm_up(…) forwards, F and B take turns, F first. {READ}")])


@pytest.mark.points(1, "makespan (v · m + p − 1)(F + B): a v-th of 1F1B's bubble")
def test_makespan(student, student_seed, case):
    for p, v, m in case.each(CASES, cases(student_seed + 5)):
        with case:
            _, schedule = order_of(student, p, v, m)
            found = pipelab.simulate(schedule).metrics["makespan"]
            text = f"Some rank waits more than it has to: compare the groups and the warm-up with the lesson's. {READ}"
            what = f"with F = 1 and B = 2 per stage the makespan of {p} ranks, {v} stages each, {m} micro-batches"
            close(found, 3.0 * (v * m + p - 1), what, {found: text})


@pytest.mark.points(1, "it trains a model in worker processes")
def test_it_trains(student):
    trains(order_of(student, 2, 2, 4)[1])
