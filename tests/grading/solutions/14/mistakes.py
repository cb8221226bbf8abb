"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

BODY = """    best, least = None, float("inf")
    for count in range(len(kept) + 1):
        for chosen in combinations(range(len(kept)), count):
            time = sum(forward[i] for i in chosen)
            if time < least and held(kept, inputs, chosen, in_flight) <= budget:
                best, least = list(chosen), time
    return best
"""
GREEDY = """    chosen = []
    for i in sorted(range(len(kept)), key=lambda i: forward[i] / (kept[i] - inputs[i] + 1e-9)):
        if held(kept, inputs, chosen, in_flight) <= budget:
            break
        chosen.append(i)
    return chosen if held(kept, inputs, chosen, in_flight) <= budget else None
"""
ALL = """    every = list(range(len(kept)))
    if held(kept, inputs, [], in_flight) <= budget:
        return []
    return every if held(kept, inputs, every, in_flight) <= budget else None
"""
MISTAKES = [
    (
        "most bytes per second first",
        [(BODY, GREEDY)],
        "test_least", "is not always the best",
    ),
    (
        "every layer or none",
        [(BODY, ALL)],
        "test_least", "That is every layer",
    ),
    (
        "the inputs forgotten",
        [("inputs[i] if i in recompute", "0 if i in recompute")],
        "test_held", "still keeps its input",
    ),
    (
        "one micro-batch in flight",
        [("in_flight * sum(", "sum(")],
        "test_held", "That is one micro-batch",
    ),
    (
        "the budget holds for one micro-batch",
        [("held(kept, inputs, chosen, in_flight) <= budget", "held(kept, inputs, chosen, 1) <= budget")],
        "test_fits", "are in flight",
    ),
    (
        "the fewest layers instead of the least time",
        [("            time = sum(forward[i] for i in chosen)\n", "            time = len(chosen)\n")],
        "test_least", "runs forwards of",
    ),
    (
        "less than the budget, where at most is asked for",
        [("<= budget", "< budget")],
        "test_ends", "Exactly the budget fits",
    ),
    (
        "an empty list where nothing fits",
        [("best, least = None,", "best, least = [],")],
        "test_ends", "should be None",
    ),
    (
        "the other way round",
        [("inputs[i] if i in recompute else kept[i]", "kept[i] if i in recompute else inputs[i]")],
        "test_held", "The other way round",
    ),
]  # fmt: skip
