"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "the overhead is taken for the fraction",
        [("(ranks - 1) / (microbatches + ranks - 1)", "(ranks - 1) / microbatches")],
        "test_bubble_fraction_of", "That is idle / busy",
    ),
    (
        "the overhead: m larger than needed",
        [("(ranks - 1) / (microbatches + ranks - 1)", "(ranks - 1) / microbatches")],
        "test_the_smallest", "More than needed are not better",
    ),
    (
        "p steps of bubble instead of p − 1",
        [("(ranks - 1) / (microbatches + ranks - 1)", "ranks / (microbatches + ranks - 1)")],
        "test_bubble_fraction_of", "not p times",
    ),
    (
        "less than, where at most is asked for",
        [("bubble_fraction_of(ranks, m) <= target", "bubble_fraction_of(ranks, m) < target")],
        "test_exactly_the_target", "At most means ≤",
    ),
    (
        "the largest that fits",
        [("return m\n", "return int(memory // each)\n")],
        "test_the_smallest", "More than needed are not better",
    ),
    (
        "rounded down",
        [("return m\n", "return m - 1\n")],
        "test_the_smallest", "Round up",
    ),
    (
        "GPipe held to hold only p micro-batches, as 1F1B",
        [("while m * each <= memory", "while min(m, ranks) * each <= memory")],
        "test_the_memory", "GPipe holds all of them at once",
    ),
    (
        "what is exactly full does not fit",
        [("while m * each <= memory", "while m * each < memory")],
        "test_the_memory", "which fits",
    ),
]  # fmt: skip
