"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "one forward too many in the warm-up",
        [("ranks - rank - 1)", "ranks - rank)")],
        "test_warm_up", "That is one too many",
    ),
    (
        "one forward too many: the memory",
        [("ranks - rank - 1)", "ranks - rank)")],
        "test_memory", "no more than the ranks from here to the end",
    ),
    (
        "the same warm-up on every rank",
        [("ranks - rank - 1)", "ranks - 1)")],
        "test_warm_up", "That is the first rank's number",
    ),
    (
        "the warm-up grows towards the end",
        [("ranks - rank - 1)", "rank)")],
        "test_it_can_run", "a gradient that only comes after a forward that it has not sent",
    ),
    (
        "all forwards first: GPipe",
        [("min(microbatches, ranks - rank - 1)", "microbatches")],
        "test_memory", "GPipe would hold",
    ),
    (
        "the warm-up ignores that there may be fewer micro-batches than ranks",
        [("min(microbatches, ranks - rank - 1)", "ranks - rank - 1"),
         ("next(forwards) for _ in range(warm_up)", "f'{rank}F{i}' for i in range(warm_up)"),
         ("for forward in forwards:", "for forward in list(forwards)[warm_up:]:")],
        "test_few", "With fewer micro-batches than ranks the warm-up is shorter",
    ),
    (
        "no cool-down",
        [("row += backwards\n", "\n")],
        "test_it_can_run", "as many as the warm-up had forwards",
    ),
    (
        "B before F in the steady state",
        [("row += [forward, next(backwards)]", "row += [next(backwards), forward]")],
        "test_it_can_run", "F comes first in each pair",
    ),
    (
        "backwards last in, first out in the cool-down",
        [("row += backwards\n", "row += [*backwards][::-1]\n")],
        "test_order", "should be",
    ),
    (
        "the rows in reverse: the first rank holds the last stage",
        [("return rows", "return rows[::-1]")],
        "test_it_can_run", "Rank s holds stage s",
    ),
]  # fmt: skip
