"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "the last end is taken for the makespan",
        [("return _end(timeline) - _start(timeline)", "return _end(timeline)")],
        "test_makespan", "subtract the first start",
    ),
    (
        "fraction and overhead swapped",
        [("_idle(timeline) / (len(timeline) * makespan(timeline))", "_idle(timeline) / _busy(timeline)  #"),
         ("return _idle(timeline) / _busy(timeline)\n", "return _idle(timeline) / (len(timeline) * makespan(timeline))\n")],
        "test_the_closed_forms", "You have swapped the two",
    ),
    (
        "the fraction is not divided by the number of ranks",
        [("_idle(timeline) / (len(timeline) * makespan(timeline))", "_idle(timeline) / makespan(timeline)")],
        "test_bubble_fraction", "Divide by ranks × makespan",
    ),
    (
        "only the time between a rank's own first and last action counts as idle",
        [("return len(timeline) * makespan(timeline) - _busy(timeline)",
          "return sum(row[-1][1] - row[0][0] for row in timeline) - _busy(timeline)")],
        "test_bubble_fraction", "before its first and after its last action too",
    ),
    (
        "the rate is taken over all ranks",
        [("return 1 - _busy([row]) / (row[-1][1] - row[0][0])", "return bubble_fraction(timeline)")],
        "test_bubble_rate", "the one rank with the longest span",
    ),
]  # fmt: skip
