"""Exercise 07. Deadlocks made of known schedules by exchanging actions; whatever comes back is checked and really runs."""

import copy
import random

import pytest

import pipelab
from pipelab import Schedule, check
from pipelab.grading.checks import legal, rows_of, trains

READ = "Read again: notebook 03 (1F1B and the memory wall), section “Why ranks wait for one another”."
HINTS = {
    "missing": f"Every action that came in has to come out. {READ}",
    "duplicate": f"Every action that came in has to come out once. {READ}",
    "order": f"A backward needs its own forward, and W its I, also on one rank. {READ}",
    "deadlock": f"The ranks above wait for one another in a circle: one of them must do something else first. {READ}",
}
NAMES = ("gpipe", "1f1b", "interleaved-1f1b", "zb-h1")


def rows_from(draw, name, ranks=0, rounds=0):
    ranks = ranks or draw.randint(2, 4)
    built = pipelab.build(name, ranks=ranks, microbatches=ranks * (rounds or draw.randint(1, 2)))
    return [[str(action) for action in row] for row in built.actions]


def deadlocks(seed, count=4, names=NAMES, **sizes):
    """Rows whose only fault is a deadlock: two actions of a rank exchanged, again and again, until one is there."""
    draw = random.Random(seed)
    for number in range(count):
        rows = rows_from(draw, names[number % len(names)], **sizes)
        while True:
            rank = draw.randrange(len(rows))
            i, k = draw.sample(range(len(rows[rank])), 2)
            tried = copy.deepcopy(rows)
            tried[rank][i], tried[rank][k] = tried[rank][k], tried[rank][i]
            refusal = check(Schedule.from_rows(tried))
            if refusal is None or refusal.code == "deadlock":
                rows = tried
            if refusal is not None and refusal.code == "deadlock":
                yield rows
                break


def mended(student, rows):
    return rows_of(student.mend(copy.deepcopy(rows)), len(rows), "mend(rows)")


def microbatches_of(rows):
    return Schedule.from_rows(rows).microbatches


@pytest.mark.points(1, "each rank has the actions that it had")
def test_same_actions(student, student_seed, case):
    for rows in case.each(deadlocks(1, 8), deadlocks(student_seed)):
        with case:
            for rank, (row, before) in enumerate(zip(mended(student, rows), rows)):
                lost, new = sorted(set(before) - set(row)), sorted(set(row) - set(before))
                assert sorted(row) == sorted(before), (
                    f"Rank {rank} should have the same {len(before)} actions as before, in another order. "
                    f"Lost: {', '.join(lost) or 'none'}; new: {', '.join(new) or 'none'}; {len(row)} in all. Weights and work "
                    f"stay where they are. {READ}"
                )


def can_run(student, case, fixed, own):
    for rows in case.each(fixed, own):
        with case:
            legal(mended(student, rows), microbatches_of(rows), HINTS)


@pytest.mark.points(2, "GPipe and 1F1B, with one stage per rank, can run again")
def test_mended(student, student_seed, case):
    names = ("gpipe", "1f1b")
    can_run(student, case, deadlocks(2, 6, names), deadlocks(student_seed + 1, 4, names))


@pytest.mark.points(1, "numbers of two digits, too: micro-batch 10 comes after 9")
def test_two_digits(student, case):
    can_run(student, case, deadlocks(3, 3, ("gpipe", "1f1b"), ranks=3, rounds=4), ())


@pytest.mark.points(2, "several stages per rank, and split backwards, can run again")
def test_mended_with_more(student, student_seed, case):
    names = ("interleaved-1f1b", "zb-h1")
    can_run(student, case, deadlocks(4, 6, names), deadlocks(student_seed + 2, 4, names))


@pytest.mark.points(1, "a schedule that can run comes back unchanged")
def test_unchanged(student, student_seed, case):
    fixed, own = random.Random(5), random.Random(student_seed + 3)
    for rows in case.each([rows_from(fixed, name) for name in NAMES], [rows_from(own, name) for name in NAMES]):
        with case:
            assert mended(student, rows) == rows, (
                f"A schedule of {len(rows)} ranks that can run as it is came back in another order. Mend what is broken and leave "
                f"the rest: its order has reasons of memory and time. {READ}"
            )


@pytest.mark.points(1, "mended schedules train a model in worker processes")
def test_it_trains(student, case):
    for rows in case.each(deadlocks(6, 2, ("1f1b", "zb-h1"))):
        with case:
            trains(legal(mended(student, rows), microbatches_of(rows), HINTS))
