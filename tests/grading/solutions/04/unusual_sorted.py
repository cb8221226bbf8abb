"""Right, and unlike the others: all actions, sorted by their kind, F being greater than B, and then by number."""

from itertools import product


def gpipe_order(ranks, microbatches):
    every = sorted(product(range(microbatches), "FB"), key=lambda action: (-ord(action[1]), action[0]))
    return [["%d%s%d" % (rank, kind, i) for i, kind in every] for rank in range(ranks)]
