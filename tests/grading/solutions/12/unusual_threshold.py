"""Right, and unlike the others: can it be done within t? Asked for every t that could be the answer, by bisection."""

from itertools import accumulate


def slowest(seconds, sizes, transfers):
    ends = list(accumulate(sizes))
    work = [float(sum(seconds[e - n : e])) for e, n in zip(ends, sizes)]
    return max(work + [float(transfers[e - 1]) for e in ends[:-1]])


def _reach(seconds, ranks, transfers, most, fits):
    """Sizes of a partition in which nothing takes longer than most, or None."""
    n = len(seconds)
    ways = {0: ()}
    for rank in range(ranks):
        following = {}
        for start in ways:
            total = 0
            for stop in range(start + 1, n + 1):
                total += seconds[stop - 1]
                if total > most or not fits(rank, start, stop):
                    break
                if stop == n or transfers[stop - 1] <= most:
                    following.setdefault(stop, ways[start] + (stop - start,))
        ways = following
    return list(ways[n]) if n in ways else None


def _least(seconds, ranks, transfers, fits):
    sums = {sum(seconds[a:b]) for a in range(len(seconds)) for b in range(a + 1, len(seconds) + 1)}
    values = sorted(sums | set(transfers))
    low, high, found = 0, len(values) - 1, None
    while low <= high:
        middle = (low + high) // 2
        sizes = _reach(seconds, ranks, transfers, values[middle], fits)
        if sizes is None:
            low = middle + 1
        else:
            found, high = sizes, middle - 1
    return found


def best(seconds, ranks, transfers):
    return _least(seconds, ranks, transfers, lambda *_: True)


def best_within(seconds, ranks, transfers, kept, limit):
    before = [0, *accumulate(kept)]
    return _least(seconds, ranks, transfers, lambda s, a, b: (before[b] - before[a]) * (ranks - s) <= limit)
