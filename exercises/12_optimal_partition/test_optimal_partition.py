"""Exercise 12. Every partition of small chains is tried, and large ones are compared with pipelab's own; numbers per student."""

import random
from itertools import combinations

import pytest

import pipelab
from pipelab import Link, Profile
from pipelab.grading.checks import close, plain
from pipelab.layout import LayerProfile

READ = "Read again: notebook 06 (Cutting the model), section “All ways to cut”."
WITHOUT = {"pipelab.layout": "the exercise is to find the cuts yourself: pipelab's partitioner is closed while it is graded"}
FIXED = (
    ([1, 1, 1, 3], 2, [0, 0, 0, 0]),
    ([4, 1, 1, 1, 1, 4, 2], 3, [0, 0, 0, 0, 0, 0, 0]),
    ([3, 1, 1, 1, 1, 3], 3, [0, 0, 0, 0, 0, 0]),
    ([2, 5, 1, 1, 6, 1, 3, 2], 4, [0, 0, 0, 0, 0, 0, 0, 0]),
    ([4, 2, 8, 1, 7, 7, 1, 8, 5], 2, [0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ([5, 4, 3], 3, [0, 0, 0]),
    ([1, 2, 3, 4], 1, [0, 0, 0, 0]),
)
"""Seconds, ranks, transfers: even is wrong, greedy is wrong, as many layers as ranks, one rank."""
LINKS = (
    ([1, 1, 1, 3], 2, [0, 0, 9, 0]),
    ([2, 2, 2, 2, 2, 2], 3, [1, 7, 1, 7, 5, 1]),
    ([1, 2, 3, 1, 2, 3, 1, 2], 4, [2, 9, 4, 9, 8, 3, 9, 1]),
    ([6, 1, 1, 6], 2, [8, 9, 3, 0]),
    ([1, 1, 1, 1, 9], 2, [2, 3, 4, 1, 50]),
    ([4, 1, 1, 1, 1, 4, 2], 3, [1, 1, 1, 1, 1, 1, 1]),
    ([3, 1, 1, 1, 1, 3], 3, [1, 2, 1, 2, 1, 2]),
    ([2, 5, 1, 1, 6, 1, 3, 2], 4, [1, 1, 1, 1, 1, 1, 1, 1]),
)


def of(draw, layers, most):
    return [draw.randint(1, most) for _ in range(layers)]


def chains(seed, count=4, link=0):
    """Draw (seconds, ranks, transfers)."""
    draw = random.Random(seed)
    for _ in range(count):
        layers = draw.randint(3, 10)
        yield of(draw, layers, 9), draw.randint(1, min(4, layers)), of(draw, layers, link) if link else [0] * layers


def cost(seconds, sizes, transfers):
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    stages = [sum(seconds[end - size : end]) for end, size in zip(ends, sizes)]
    return max(*stages, *(transfers[end - 1] for end in ends[:-1]), 0)


def every(layers, ranks):
    """All partitions."""
    for cuts in combinations(range(1, layers), ranks - 1):
        bounds = (0, *cuts, layers)
        yield [b - a for a, b in zip(bounds, bounds[1:])]


def fits(sizes, kept, limit):
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    ranks = len(sizes)
    return all((ranks - s) * sum(kept[end - size : end]) <= limit for s, (end, size) in enumerate(zip(ends, sizes)))


def sizes_of(value, layers, ranks, what):
    """The sizes, if they are a partition."""
    sizes = [plain(size, int, f"a size in {what}") for size in plain(value, list, what)]
    assert len(sizes) == ranks, f"{what} should have a size for each of the {ranks} ranks, but is {sizes}. {READ}"
    assert min(sizes) >= 1, f"{what} is {sizes}: every rank gets one layer at least. {READ}"
    assert sum(sizes) == layers, f"{what} is {sizes}: that makes {sum(sizes)} layers, and there are {layers}. {READ}"
    return sizes


def greedy(seconds, ranks):
    """Fill each rank until it has its share of the whole."""
    sizes, taken, at = [], 0.0, 0
    share = sum(seconds) / ranks
    for rank in range(ranks - 1):
        start = at
        while at < len(seconds) - (ranks - rank - 1) and (at == start or taken + seconds[at] <= share * (rank + 1)):
            taken += seconds[at]
            at += 1
        sizes.append(at - start)
    return [*sizes, len(seconds) - at]


def even(layers, ranks):
    return [layers // ranks + (i < layers % ranks) for i in range(ranks)]


def hint_for(sizes, seconds, transfers):
    """What a partition that is not the best looks like."""
    layers, ranks = len(seconds), len(sizes)
    if any(transfers) and cost(seconds, sizes, transfers) > cost(seconds, sizes, [0] * layers):
        return "The slowest of it is a transfer: a cut behind another layer sends less."
    if sizes == even(layers, ranks):
        return "That is as even as possible in layers; but layers do not take equally long."
    if sizes == greedy(seconds, ranks):
        return "That is filled rank by rank up to a share: what one rank leaves over, the last one has to take."
    return ""


def best_of(seconds, ranks, transfers):
    return min(every(len(seconds), ranks), key=lambda sizes: cost(seconds, sizes, transfers))


def is_best(student, seconds, ranks, transfers):
    what = f"best({seconds}, {ranks}, {transfers})"
    sizes = sizes_of(student.best(list(seconds), ranks, list(transfers)), len(seconds), ranks, what)
    right = best_of(seconds, ranks, transfers)
    found, least = cost(seconds, sizes, transfers), cost(seconds, right, transfers)
    assert found <= least * (1 + 1e-9), (
        f"{what}: the slowest of {sizes} takes {found:g}, that of {right} {least:g}. {hint_for(sizes, seconds, transfers)} {READ}"
    )


@pytest.mark.points(1, "the slowest of a partition")
def test_slowest(student, student_seed, case):
    own = ((*chain, None) for chain in chains(student_seed, 3, 9))
    for seconds, ranks, transfers, _ in case.each(((*chain, None) for chain in (*FIXED, *LINKS)), own):
        draw = random.Random(len(seconds) + ranks)
        sizes = draw.choice(list(every(len(seconds), ranks)))
        ends = [sum(sizes[: i + 1]) for i in range(ranks)]
        stages = [sum(seconds[end - size : end]) for end, size in zip(ends, sizes)]
        hints = {
            float(max(stages)): "A transfer at a cut can be the slowest, too.",
            float(max([*stages, *(transfers[end - 1] for end in ends)])): "Behind the last layer there is no cut, and nothing is sent.",
            float(max([t + transfers[e - 1] * (e < len(seconds)) for t, e in zip(stages, ends)])): "A transfer runs beside the computing of other micro-batches: the larger of the two counts, not the sum.",
        }
        with case:
            what = f"slowest({seconds}, {sizes}, {transfers})"
            close(student.slowest(list(seconds), list(sizes), list(transfers)), float(cost(seconds, sizes, transfers)), what, hints)


@pytest.mark.points(2, "the best cuts, where transfers cost nothing")
def test_best(student, student_seed, case):
    for seconds, ranks, transfers in case.each(FIXED, chains(student_seed + 1)):
        with case:
            is_best(student, seconds, ranks, transfers)


@pytest.mark.points(2, "the best cuts with transfers")
def test_transfers(student, student_seed, case):
    for seconds, ranks, transfers in case.each(LINKS, chains(student_seed + 2, link=12)):
        with case:
            is_best(student, seconds, ranks, transfers)


LIMITS = (
    ([1, 1, 1, 3], 2, [5, 5, 5, 5], 20),
    ([1, 1, 1, 3], 2, [5, 5, 5, 5], 9),
    ([2, 2, 2, 2, 2, 2], 3, [4, 4, 4, 4, 4, 4], 24),
    ([5, 1, 1, 1, 1], 2, [1, 9, 1, 1, 1], 13),
    ([1, 1, 1, 1, 1, 1], 2, [1, 1, 1, 1, 1, 1], 6),
    ([3, 1, 2, 2, 1, 3, 1], 3, [2, 1, 3, 1, 2, 1, 6], 9),
    ([9, 1, 1], 3, [4, 2, 1], 12),
)


def limits(seed, count=4):
    """Draw (seconds, ranks, what layers keep, a limit)."""
    draw = random.Random(seed)
    for seconds, ranks, _ in chains(seed, count):
        kept = of(draw, len(seconds), 9)
        yield seconds, ranks, kept, draw.randint(max(kept), 2 * sum(kept))


@pytest.mark.points(2, "within the memory of every rank")
def test_within(student, student_seed, case):
    for seconds, ranks, kept, limit in case.each(LIMITS, limits(student_seed + 3)):
        none, layers = [0] * len(seconds), len(seconds)
        fitting = [sizes for sizes in every(layers, ranks) if fits(sizes, kept, limit)]
        right = min(fitting, key=lambda sizes: cost(seconds, sizes, none), default=None)
        what = f"best_within({seconds}, {ranks}, no transfers, kept={kept}, limit={limit})"
        with case:
            found = student.best_within(list(seconds), ranks, none, list(kept), limit)
            if right is None:
                assert found is None, f"{what}: nothing fits, so the answer should be None, but is {found}. Rank s holds p − s micro-batches. {READ}"
                continue
            assert found is not None, f"{what}: {right} fits, so it is not None. Rank s holds p − s of them, and not each rank p; exactly the limit is fine. {READ}"
            sizes = sizes_of(found, layers, ranks, what)
            held = [(ranks - s) * sum(kept[sum(sizes[:s]) : sum(sizes[: s + 1])]) for s in range(ranks)]
            assert max(held) <= limit, f"{what}: with {sizes} the ranks hold {held} bytes. Rank s of 1F1B holds p − s micro-batches, not one. {READ}"
            took, least = cost(seconds, sizes, none), cost(seconds, right, none)
            assert took <= least, (
                f"{what}: {sizes} fits and its slowest takes {took}, but {right} fits, too, and takes {least}. "
                f"The best of all may not fit, and the best of those that do may be cut quite differently. {READ}"
            )


def as_profile(seconds, transfers):
    layers = [LayerProfile(str(i), t, 0, 0, 0, 0, size, 0) for i, (t, size) in enumerate(zip(seconds, transfers))]
    return Profile("cpu", "float32", 1, tuple(layers), LayerProfile("loss", 0, 0, 0, 0, 0, 0, 0))


def large(seed, layers=120, ranks=12):
    draw = random.Random(seed)
    return of(draw, layers, 50), ranks, of(draw, layers, 400)


@pytest.mark.points(1, "120 layers on 12 ranks, as good as pipelab.partition")
def test_large(student, student_seed, case):
    for seconds, ranks, transfers in case.each((large(1), large(2)), (large(student_seed + 4),)):
        right = pipelab.partition(as_profile(seconds, transfers), ranks=ranks, link=Link(0, 1.0)).sizes
        with case:
            what = f"best(…) of {len(seconds)} layers on {ranks} ranks"
            sizes = sizes_of(student.best(list(seconds), ranks, list(transfers)), len(seconds), ranks, what)
            found, least = cost(seconds, sizes, transfers), cost(seconds, right, transfers)
            assert found <= least, f"{what}: its slowest takes {found}, that of pipelab.partition {least}. {hint_for(sizes, seconds, transfers)} {READ}"
