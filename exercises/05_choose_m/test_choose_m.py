"""Exercise 05. The simulator says how large the bubble is and how many micro-batches are held; numbers per student."""

import random

import pytest

import pipelab
from pipelab.grading.checks import FEW, SIZES, close, plain, sizes

READ = "Read again: notebook 02 (Micro-batches and GPipe), section “Choose m”."


def simulated(ranks, microbatches):
    return pipelab.simulate(pipelab.build("gpipe", ranks=ranks, microbatches=microbatches)).metrics


def smallest(ranks, target):
    """The smallest m that the simulator finds; a bubble that equals the target to the last digit but two counts."""
    return next(m for m in range(1, 400) if simulated(ranks, m)["bubble_fraction"] <= target + 1e-12)


def checked(student, ranks, target, memory, each):
    """The answer, as a whole number or None."""
    answer = student.choose_m(ranks, target, memory, each)
    return None if answer is None else plain(answer, int, f"choose_m({ranks}, {target}, {memory}, {each})")


@pytest.mark.points(1, "GPipe's bubble fraction, (p − 1)/(m + p − 1)")
def test_bubble_fraction_of(student, student_seed, case):
    for p, m in case.each((*SIZES, *FEW), sizes(student_seed)):
        metrics = simulated(p, m)
        hints = {
            (p - 1) / m: f"That is idle / busy, the overhead; the fraction is of all the time there is. {READ}",
            p / (m + p - 1): f"The first micro-batch passes p − 1 other ranks: each idles p − 1 times F + B, not p times. {READ}",
            (p - 1) / (m + p): f"The makespan is (m + p − 1)(F + B): the last rank works m times, after p − 1 before it. {READ}",
        }
        what = f"the fraction of {p} ranks and {m} micro-batches"
        with case:
            close(student.bubble_fraction_of(p, m), metrics["bubble_fraction"], what, hints)


def targets(seed, count=3):
    """Draw (ranks, target)."""
    draw = random.Random(seed)
    for _ in range(count):
        yield draw.randint(2, 8), draw.choice([0.11, 0.13, 0.19, 0.22, 0.31, 0.44])


def memories(seed, count=3):
    """Draw (ranks, target, GiB of each micro-batch)."""
    draw = random.Random(seed)
    for _ in range(count):
        yield draw.randint(2, 8), draw.choice([0.13, 0.22, 0.31]), draw.choice([0.25, 0.5, 1.5, 2.0])


@pytest.mark.points(2, "the smallest m that reaches the target")
def test_the_smallest(student, student_seed, credit, case):
    for ranks, target in case.each(((4, 0.31), (8, 0.22), (2, 0.44), (6, 0.11), (3, 0.19)), targets(student_seed + 1)):
        right = smallest(ranks, target)
        with case:
            answer = checked(student, ranks, target, 1e6, 0.5)
            assert answer is not None, f"{right} micro-batches bring {ranks} ranks to {target}, and memory is plenty: not None. {READ}"
            found = simulated(ranks, answer)["bubble_fraction"] if 0 < answer < 10_000 else 1
            assert found <= target or answer >= 10_000, (
                f"With {answer} micro-batches {ranks} ranks have a bubble fraction of {found:.4f}, more than {target}. "
                f"Round up: one micro-batch too few misses the target; and mind which bubble number you solve for. {READ}"
            )
            if answer > right:
                credit(0.25, "The target is reached.")
            assert answer == right, (
                f"{answer} micro-batches reach {target} on {ranks} ranks, but {right} do, too. More than needed are not better: "
                f"each takes memory, and makes its matrices smaller. {READ}"
            )


@pytest.mark.points(1, "a bubble of exactly the target is good enough")
def test_exactly_the_target(student, case):
    for ranks, target in case.each(((2, 0.5), (4, 0.25), (8, 0.125), (3, 0.5))):
        right = smallest(ranks, target)
        with case:
            answer = checked(student, ranks, target, 1e6, 0.5)
            assert answer == right, (
                f"{right} micro-batches give {ranks} ranks exactly {target}, which is good enough, but the answer is {answer}. "
                f"At most means ≤. {READ}"
            )


@pytest.mark.points(2, "the memory cap: GPipe holds all m micro-batches")
def test_the_memory(student, student_seed, case):
    fixed = ((4, 0.31, 0.5), (8, 0.22, 1.5), (2, 0.13, 2.0), (6, 0.22, 0.25))
    for ranks, target, each in case.each(fixed, memories(student_seed + 2)):
        right = smallest(ranks, target)
        need = max(simulated(ranks, right)["peak_in_flight"]) * each
        text = f"{ranks} ranks, target {target}, {each} GiB each"
        with case:
            full = checked(student, ranks, target, need, each)
            assert full == right, (
                f"{text}: {right} micro-batches fill {need} GiB exactly, which fits, but the answer is {full}. {READ}"
            )
            short = checked(student, ranks, target, need - each / 2, each)
            assert short is None, (
                f"{text}, {need - each / 2} GiB: the target needs {right} micro-batches, and GPipe holds all of them at once, "
                f"{need} GiB: the answer should be None, but is {short}. {READ}"
            )


@pytest.mark.points(1, "one rank has no bubble")
def test_one_rank(student, case):
    for memory, right in case.each(((4, 1), (1, None))):
        with case:
            answer = checked(student, 1, 0.1, memory, 2)
            assert answer == right, (
                f"One rank never waits: m = 1 reaches any target, if it fits. With {memory} GiB and 2 GiB each the answer "
                f"should be {right}, but is {answer}. {READ}"
            )
