"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

EVEN = "    n = len(seconds)\n    return [n // ranks + (i < n % ranks) for i in range(ranks)]\n"
GREEDY = """    sizes, taken, at = [], 0, 0
    for rank in range(ranks - 1):
        start = at
        while at < len(seconds) - (ranks - rank - 1) and (at == start or taken + seconds[at] <= sum(seconds) / ranks * (rank + 1)):
            taken += seconds[at]
            at += 1
        sizes.append(at - start)
    return sizes + [len(seconds) - at]
"""
BEST = "    return search(seconds, ranks, transfers, lambda rank, start, stop: True)\n"
MISTAKES = [
    (
        "as even as possible in layers",
        [(BEST, EVEN)],
        "test_best", "as even as possible in layers",
    ),
    (
        "rank by rank up to its share",
        [(BEST, GREEDY)],
        "test_best", "filled rank by rank",
    ),
    (
        "transfers forgotten in the search",
        [("cut = transfers[stop - 1] if stop < layers else 0", "cut = 0")],
        "test_transfers", "a cut behind another layer sends less",
    ),
    (
        "transfers forgotten in what a partition costs",
        [("            worst = max(worst, transfers[at - 1])\n", "            pass\n")],
        "test_slowest", "A transfer at a cut can be the slowest",
    ),
    (
        "a transfer behind the last layer",
        [("        if at < len(seconds):\n", "        if True:\n")],
        "test_slowest", "Behind the last layer there is no cut",
    ),
    (
        "one micro-batch in memory",
        [("(ranks - rank) * sum(kept[start:stop])", "sum(kept[start:stop])")],
        "test_within", "not one",
    ),
    (
        "p micro-batches on every rank",
        [("(ranks - rank) * sum(kept[start:stop])", "ranks * sum(kept[start:stop])")],
        "test_within", "not each rank p",
    ),
    (
        "the best of all, if it fits",
        [("    return search(seconds, ranks, transfers, fits)\n",
          "    sizes = best(seconds, ranks, transfers)\n    ends = [sum(sizes[: i + 1]) for i in range(ranks)]\n"
          "    return sizes if all(fits(i, ends[i] - sizes[i], ends[i]) for i in range(ranks)) else None\n")],
        "test_within", "so it is not None",
    ),
    (
        "a rank without layers",
        [("range(start + 1, layers + 1)", "range(start, layers + 1)")],
        "test_within", "every rank gets one layer at least",
    ),
]  # fmt: skip
