"""Exercise 01. The timelines come from the simulator, with sizes and costs of their own at every run."""

import random

import pytest

import pipelab
from pipelab.grading.checks import close

READ = "Read again: notebook 00 (Start here: the assembly line), section “Three numbers”."


def timelines(seed, count=6):
    """(intervals per rank, the simulator's numbers, its timeline) of schedules of many sizes."""
    draw = random.Random(seed)
    for _ in range(count):
        name = draw.choice(["gpipe", "1f1b", "zb-h2", "naive", "eager-1f1b"])
        order = pipelab.build(name, ranks=draw.randint(2, 6), microbatches=draw.randint(2, 9))
        costs = pipelab.Costs(
            [draw.choice([0.5, 1, 2]) for _ in range(order.stages)], backward=draw.choice([1, 2, 3]), latency=draw.choice([0, 0.25])
        )
        found = pipelab.simulate(order, costs)
        later = draw.choice([0, 3])  # a timeline need not begin at 0
        rows = [
            [(float(s) + later, float(e) + later) for s, e in zip(found.started[low:high], found.ended[low:high])]
            for low, high in zip(order.offsets[:-1], order.offsets[1:])
        ]
        yield rows, found.metrics, order


@pytest.mark.points(1, "makespan: first start to last end over all ranks")
def test_makespan(student, student_seed, case):
    for rows, metrics, _ in case.each(timelines(1), timelines(student_seed)):
        hints = {
            max(row[-1][1] for row in rows): f"That is the last end; subtract the first start, which need not be 0. {READ}",
            max(metrics["spans"]): f"That is the longest span of one rank; the makespan is over all ranks. {READ}",
            sum(e - s for row in rows for s, e in row): f"That is the busy time of all ranks together. {READ}",
        }
        with case:
            close(student.makespan(rows), metrics["makespan"], "makespan", hints)


@pytest.mark.points(1, "bubble fraction: idle / (ranks × makespan)")
def test_bubble_fraction(student, student_seed, case):
    for rows, metrics, order in case.each(timelines(2), timelines(student_seed + 1)):
        inner = sum(metrics["spans"]) - sum(e - s for row in rows for s, e in row)
        fraction = metrics["bubble_fraction"]
        hints = {
            metrics["bubble_overhead"]: f"That is idle / busy, the overhead; the fraction is of all the time there is. {READ}",
            fraction * order.ranks: f"Divide by ranks × makespan: each rank has that much time. {READ}",
            inner / (order.ranks * metrics["makespan"]): f"A rank is idle before its first and after its last action too. {READ}",
            fraction * 100: f"That is in percent; a fraction goes from 0 to 1. {READ}",
        }
        with case:
            close(student.bubble_fraction(rows), fraction, "bubble_fraction", hints)


@pytest.mark.points(1, "bubble overhead: idle / busy")
def test_bubble_overhead(student, student_seed, case):
    for rows, metrics, _ in case.each(timelines(3), timelines(student_seed + 2)):
        hints = {
            metrics["bubble_fraction"]: f"That is the fraction, idle of all time; the overhead is idle / busy. {READ}",
            metrics["bubble_overhead"] * 100: f"That is in percent; the overhead is a plain ratio. {READ}",
        }
        with case:
            close(student.bubble_overhead(rows), metrics["bubble_overhead"], "bubble_overhead", hints)


@pytest.mark.points(1, "bubble rate: 1 − busy / span on the rank with the longest span")
def test_bubble_rate(student, student_seed, case):
    for rows, metrics, _ in case.each(timelines(9), timelines(student_seed + 3)):
        rates = [1 - sum(e - s for s, e in row) / (row[-1][1] - row[0][0]) for row in rows]
        longest = [r for r, span in zip(rates, metrics["spans"]) if span == max(metrics["spans"])]
        hints = {
            metrics["bubble_fraction"]: "That is the fraction over all ranks; the rate looks at the one rank with the longest span.",
            max(rates): "That is the largest rate of any rank; asked for is the rate of the rank with the longest span.",
            sum(rates) / len(rates): "That is the mean over the ranks; asked for is the rank with the longest span.",
        }
        with case:
            answer = student.bubble_rate(rows)
            expected = next((rate for rate in longest if type(answer) is float and abs(rate - answer) < 1e-9), longest[0])
            close(answer, expected, "bubble_rate", {wrong: f"{text} {READ}" for wrong, text in hints.items()})


@pytest.mark.points(1, "(p − 1)/m and (p − 1)/(m + p − 1): which is which")
def test_the_closed_forms(student, case):
    """With equal stages 1F1B's overhead is (p − 1)/m and its fraction (p − 1)/(m + p − 1)."""
    for p, m in case.each(((2, 3), (4, 8), (8, 5))):
        found = pipelab.simulate(pipelab.build("gpipe", ranks=p, microbatches=m))
        bounds = zip(found.schedule.offsets[:-1], found.schedule.offsets[1:])
        rows = [[(float(s), float(e)) for s, e in zip(found.started[a:b], found.ended[a:b])] for a, b in bounds]
        swapped = f"You have swapped the two: (p − 1)/m is idle / busy, (p − 1)/(m + p − 1) idle of all time. {READ}"
        with case:
            close(student.bubble_overhead(rows), (p - 1) / m, "bubble_overhead", {(p - 1) / (m + p - 1): swapped})
            close(student.bubble_fraction(rows), (p - 1) / (m + p - 1), "bubble_fraction", {(p - 1) / m: swapped})
