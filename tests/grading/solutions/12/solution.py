def slowest(seconds, sizes, transfers):
    worst, at = 0, 0
    for size in sizes:
        worst = max(worst, sum(seconds[at : at + size]))
        at += size
        if at < len(seconds):
            worst = max(worst, transfers[at - 1])
    return worst


def search(seconds, ranks, transfers, fits):
    """best[j]: of the first j layers on the ranks so far: (the slowest, sizes)."""
    layers = len(seconds)
    best = {0: (0, [])}
    for rank in range(ranks):
        after = {}
        for start, (worst, sizes) in best.items():
            for stop in range(start + 1, layers + 1):
                if not fits(rank, start, stop):
                    break
                cut = transfers[stop - 1] if stop < layers else 0
                found = max(worst, sum(seconds[start:stop]), cut)
                if stop not in after or found < after[stop][0]:
                    after[stop] = found, sizes + [stop - start]
        best = after
    return best[layers][1] if layers in best else None


def best(seconds, ranks, transfers):
    return search(seconds, ranks, transfers, lambda rank, start, stop: True)


def best_within(seconds, ranks, transfers, kept, limit):
    def fits(rank, start, stop):
        return (ranks - rank) * sum(kept[start:stop]) <= limit

    return search(seconds, ranks, transfers, fits)
