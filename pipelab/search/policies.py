"""The policies that the heuristic tries: patterns between V-Min and ZB-2p, and fixed orders.

They were chosen by trying thousands over sizes, costs and limits. The first one of each placement
never comes to a standstill, so that there is always a schedule.
"""

from collections.abc import Iterator
from itertools import permutations, product

from .greedy import Policy
from .problem import Problem

Slots = tuple[tuple[float, ...], tuple[float, ...]]

# The way in and out of a V: see ``pattern``. The first ones do well most often.
V_FIRST = (
    (1, 3, 1, 3, 0),
    (0, 0, 0, 0, 0),
    (0, 1, 0, 1, 3),
    (0, 0, 0, 1, 0),
    (0, 1, 0, 1, 0),
    (1, 3, 0, 2, 0),
    (2, 2, 0, 2, 2),
    (0, 2, 0, 2, 1),
)
V_STRICT = ((0, 1), (0, 1, 3), (0, 1), (0, 1, 3), (0, 3))
V_FREE = ((0, 1, 3), (0, 1, 3), (0, 2), (0, 1), (0,))


def policies(problem: Problem) -> list[Policy]:
    """All policies for the placement, the most promising first."""
    return list(dict.fromkeys(_for_v(problem) if problem.arms == 2 else _for_loop(problem)))


def pattern(problem: Problem, waits: tuple[int, int, int, int, int]) -> Slots:
    """Slots of micro-batch 0 when every action takes one.

    waits: free slots after each F on the way in, each F on the way back, each I on the way in (arm
    1 of the V), each I on the way out, and between the last F and its I. More waiting holds more
    micro-batches in flight: none at all is V-Min.
    """
    p, stages = problem.ranks, problem.stages
    first, second, third, fourth, turn = waits
    forward, backward = [0.0] * stages, [0.0] * stages
    for stage in range(1, stages):
        wait = first if stage < p else second
        if stage == p:
            wait = 0  # at the turn of the V
        forward[stage] = forward[stage - 1] + 1 + wait
    backward[-1] = forward[-1] + 1 + turn
    for stage in reversed(range(stages - 1)):
        wait = fourth if stage < p else third
        if stage == p - 1 and stages > p:
            wait = 0
        backward[stage] = backward[stage + 1] + 1 + wait
    return tuple(forward), tuple(backward)


def _for_v(problem: Problem) -> Iterator[Policy]:
    p = problem.ranks
    yield Policy(((3.0,) * p + (1.0,) * p, (0.0,) * p + (2.0,) * p), 0)
    for waits, delay, late in product(V_FIRST, (0, 1, 2), (True, False)):
        yield Policy(pattern(problem, waits), 6, strict=True, delay=(delay,) * p, late=late)
    for waits in (*V_FIRST, *product(*V_STRICT)):
        for whole in (True, False):
            yield Policy(pattern(problem, waits), 6, strict=True, whole=whole)
    for order in permutations((0.0, 1.0, 2.0, 3.0)):
        forward_in, forward_back, backward_in, backward_out = order
        slots = (forward_in,) * p + (forward_back,) * p, (backward_out,) * p + (backward_in,) * p
        for whole in (True, False):
            yield Policy(slots, 0, whole=whole)
    for waits in product(*V_FREE):
        yield Policy(pattern(problem, waits), 6)


def _for_loop(problem: Problem) -> Iterator[Policy]:
    p = problem.ranks
    delays = (None, tuple(range(p)), tuple(range(0, 2 * p, 2)))
    forward_first, backward_first = ((0.0,) * p, (1.0,) * p), ((1.0,) * p, (0.0,) * p)
    yield Policy(forward_first, 0, in_turn=True, whole=False, punctual=True)
    yield Policy(forward_first, 0, in_turn=True, punctual=True)
    yield Policy(pattern(problem, (0, 0, 0, 1, 0)), 3, whole=False)
    yield Policy(backward_first, 0)
    yield Policy(pattern(problem, (0, 0, 0, 1, 0)), 3, strict=True, delay=delays[1])
    yield Policy(pattern(problem, (0, 0, 0, 3, 1)), 3, strict=True)
    yield Policy(forward_first, 0, punctual=True, delay=delays[1])
    either = (True, False)
    for delay, in_turn, whole, punctual, slots in product(
        delays, either, either, either, (forward_first, backward_first)
    ):
        yield Policy(slots, 0, in_turn=in_turn, delay=delay, whole=whole, punctual=punctual)
    for out, delay, turn, strict, whole, into in product(
        (0, 1, 2, 3), delays[:2], (0, 1), (True, False), (True, False), (0, 2)
    ):
        yield Policy(
            pattern(problem, (into, 0, 0, out, turn)), 3, strict=strict, delay=delay, whole=whole
        )
