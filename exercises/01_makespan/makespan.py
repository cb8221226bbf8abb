"""Exercise 01: makespan and the three bubble numbers.

timeline: one list per rank of (start, end) intervals in which it works, in order of time; times in any unit.

    >>> two = [[(0, 1), (3, 5)], [(1, 3)]]      # rank 0 waits from 1 to 3, rank 1 before 1 and after 3
    >>> makespan(two), bubble_fraction(two)
    (5, 0.5)
"""

Timeline = list[list[tuple[float, float]]]


def makespan(timeline: Timeline) -> float:
    """First start to last end, over all ranks."""
    raise NotImplementedError("exercise 01: makespan")


def bubble_fraction(timeline: Timeline) -> float:
    """Idle time of all ranks / (ranks × makespan)."""
    raise NotImplementedError("exercise 01: bubble_fraction")


def bubble_overhead(timeline: Timeline) -> float:
    """Idle time of all ranks / busy time of all ranks: Megatron-LM's (p − 1)/m where all is equal."""
    raise NotImplementedError("exercise 01: bubble_overhead")


def bubble_rate(timeline: Timeline) -> float:
    """1 − busy / span on the rank with the longest span: the zero-bubble papers' number."""
    raise NotImplementedError("exercise 01: bubble_rate")
