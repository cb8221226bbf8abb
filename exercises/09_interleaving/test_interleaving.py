"""Exercise 09. Ranks, chunks and rounds of their own for every student; the order is executed by worker processes."""

import random

import pytest

import pipelab
from pipelab.grading.checks import close, legal, plain, rows_of, same_rows, trains

READ = "Read again: notebook 04 (Interleaving), section “The warm-up count”."
HINTS = {
    "wrong-rank": f"Actions name the stage: chunk c of rank s is stage c · p + s. {READ}",
    "duplicate": f"Actions name the stage: chunk c of rank s is stage c · p + s. {READ}",
    "missing": f"Every micro-batch passes every chunk, forward and back; after the last F the other B's follow. {READ}",
    "out-of-range": f"Micro-batches are numbered from 0; each rank sends v · m forwards, not more. {READ}",
    "order": f"A backward needs its own forward: the last rank warms up with p forwards for each chunk but the first. {READ}",
    "deadlock": f"Backwards take the last chunk first, and the warm-up is longer the further in front a rank is. {READ}",
}


def cases(seed, count=5):
    """(ranks, stages per rank, micro-batches)."""
    draw = random.Random(seed)
    yield from ((4, 2, 8), (2, 3, 2))
    for _ in range(count):
        ranks = draw.randint(1, 4)
        yield ranks, draw.randint(1, 3), ranks * draw.randint(1, 3)


def schedules(student, seed):
    for p, v, m in cases(seed):
        rows = rows_of(student.interleaved_order(p, v, m), p, f"interleaved_order({p}, {v}, {m})")
        yield p, v, m, rows, legal(rows, m, HINTS)


def right_rows(p, v, m):
    right = pipelab.build("interleaved-1f1b", ranks=p, stages_per_rank=v, microbatches=m)
    return [[str(action) for action in row] for row in right.actions]


@pytest.mark.points(2, "the warm-up count")
def test_warm_up(student, student_seed):
    for p, v, m in cases(student_seed):
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
def test_it_can_run(student, student_seed):
    for p, v, _, _, schedule in schedules(student, student_seed + 1):
        assert schedule.stages == p * v, f"{p} ranks with {v} stages each have {p * v} stages, not {schedule.stages}. {READ}"


@pytest.mark.points(1, "forwards in groups of p, chunk after chunk")
def test_forwards(student, student_seed):
    for p, v, m, rows, _ in schedules(student, student_seed + 2):
        forwards, right = ([[a for a in row if "F" in a] for row in each] for each in (rows, right_rows(p, v, m)))
        breadth = [[f"{c * p + s}F{i}" for c in range(v) for i in range(m)] for s in range(p)]
        depth = [[f"{c * p + s}F{i}" for i in range(m) for c in range(v)] for s in range(p)]
        hints = [
            (breadth, f"That is breadth first, all micro-batches through a chunk: it holds all in memory. Groups of p. {READ}"),
            (depth, f"That is one micro-batch through all chunks: it waits for the other ranks each time. Groups of p. {READ}"),
        ]
        same_rows(forwards, right, hints)


@pytest.mark.points(1, "backwards in groups of p, the last chunk first")
def test_backwards(student, student_seed):
    for p, v, m, rows, _ in schedules(student, student_seed + 3):
        backwards, right = ([[a for a in row if "B" in a] for row in each] for each in (rows, right_rows(p, v, m)))
        same_rows(backwards, right, [(backwards, f"The gradient comes from the last stage: chunk v − 1 first. {READ}")])


@pytest.mark.points(1, "warm-up, F and B in turn, the rest of the backwards")
def test_order(student, student_seed):
    for p, v, m, rows, _ in schedules(student, student_seed + 4):
        same_rows(rows, right_rows(p, v, m), [(rows, f"After warm_up(…) forwards, F and B take turns, F first. {READ}")])


@pytest.mark.points(1, "makespan (v · m + p − 1)(F + B): a v-th of 1F1B's bubble")
def test_makespan(student, student_seed):
    for p, v, m, _, schedule in schedules(student, student_seed + 5):
        found = pipelab.simulate(schedule).metrics["makespan"]
        text = f"A rank waits more than it has to: the groups are not of p micro-batches, or the warm-up is too short. {READ}"
        what = f"with F = 1 and B = 2 per stage the makespan of {p} ranks, {v} stages each, {m} micro-batches"
        close(found, 3.0 * (v * m + p - 1), what, {found: text})


@pytest.mark.points(1, "it trains a model in worker processes")
def test_it_trains(student):
    rows = rows_of(student.interleaved_order(2, 2, 4), 2, "interleaved_order(2, 2, 4)")
    trains(legal(rows, 4, HINTS))
