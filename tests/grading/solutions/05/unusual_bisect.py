"""Right, and unlike the others: the simulator measures the bubble, and a bisection finds where it falls to the target."""

import pipelab


def bubble_fraction_of(ranks, microbatches):
    order = pipelab.build("gpipe", ranks=ranks, microbatches=microbatches)
    return pipelab.simulate(order).metrics["bubble_fraction"]


def choose_m(ranks, target, memory, each):
    low, high = 0, 256
    while high - low > 1:
        middle = (low + high) // 2
        if bubble_fraction_of(ranks, middle) <= target:
            high = middle
        else:
            low = middle
    return high if high * each <= memory else None
