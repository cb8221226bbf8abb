"""Right, and unlike the others: everything from arrays; of equal spans the last rank is taken."""

import numpy as np


def makespan(timeline):
    times = np.concatenate([np.ravel(row) for row in timeline])
    return float(times.max() - times.min())


def _busy(row):
    return float(np.diff(np.array(row), axis=1).sum())


def bubble_fraction(timeline):
    return float(np.mean([1 - _busy(row) / makespan(timeline) for row in timeline]))


def bubble_overhead(timeline):
    fraction = bubble_fraction(timeline)
    return fraction / (1 - fraction)


def bubble_rate(timeline):
    spans = [row[-1][1] - row[0][0] for row in timeline]
    rank = len(spans) - 1 - int(np.argmax(spans[::-1]))
    return 1 - _busy(timeline[rank]) / spans[rank]
