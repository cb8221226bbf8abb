"""Right, and unlike the others: solved for m with exact fractions, then compared with the memory."""

from fractions import Fraction
from math import ceil


def bubble_fraction_of(ranks, microbatches):
    return float(1 - Fraction(microbatches, microbatches + ranks - 1))


def choose_m(ranks, target, memory, each):
    share = Fraction(target)
    m = max(1, ceil((ranks - 1) * (1 - share) / share))
    return m if m * Fraction(each) <= Fraction(memory) else None
