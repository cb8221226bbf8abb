"""Right, and unlike the others: recursion from the last rank, with what was found kept in a cache."""

from functools import lru_cache


def slowest(seconds, sizes, transfers):
    if len(sizes) == 1:
        return sum(seconds)
    n = sizes[0]
    return max(sum(seconds[:n]), transfers[n - 1], slowest(seconds[n:], sizes[1:], transfers[n:]))


def best(seconds, ranks, transfers):
    return best_within(seconds, ranks, transfers, [0] * len(seconds), 0)


def best_within(seconds, ranks, transfers, kept, limit):
    @lru_cache(maxsize=None)
    def upto(stop, rank):
        """(slowest, sizes) of the first layers on ranks 0 to rank."""
        found = (float("inf"), None)
        for start in range(stop - 1, rank - 1, -1):
            if (ranks - rank) * sum(kept[start:stop]) > limit:
                break
            if rank == 0 and start > 0:
                continue
            before, sizes = (0, ()) if rank == 0 else upto(start, rank - 1)
            if sizes is None:
                continue
            edge = transfers[start - 1] if start else 0
            found = min(found, (max(before, edge, sum(seconds[start:stop])), sizes + (stop - start,)), key=lambda f: f[0])
        return found

    sizes = upto(len(seconds), ranks - 1)[1]
    return None if sizes is None else list(sizes)
