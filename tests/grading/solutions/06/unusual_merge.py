"""Right, and unlike the others: every action gets a place in its row, F i at 2i and B i half a step behind F i + p − s − 1."""


def one_f_one_b(ranks, microbatches):
    def place(action):
        kind, i, behind = action
        return 2 * i if kind == "F" else 2 * (i + behind) + 1

    every = lambda s: [(kind, i, ranks - s - 1) for kind in "BF" for i in reversed(range(microbatches))]  # noqa: E731
    return [[f"{s}{kind}{i}" for kind, i, _ in sorted(every(s), key=place)] for s in range(ranks)]
