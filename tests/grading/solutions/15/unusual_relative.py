"""Right, and unlike the others: the least relative errors by lstsq, after messages far from the median of their size are dropped."""

import numpy as np


def waiting_and_transfer(asked, sent, arrived):
    if sent <= asked:
        return 0.0, arrived - asked
    return sent - asked, arrived - sent


def totals(log):
    sums = {}
    for row in log:
        mine = sums.setdefault(row["rank"], np.zeros(3))
        mine[0] += row["ended"] - row["started"]
        if row["bytes"] > 0:
            mine[1:] += waiting_and_transfer(row["asked"], row["sent"], row["arrived"])
    return {rank: tuple(mine.tolist()) for rank, mine in sums.items()}


def fit(log):
    kept = np.array([(r["bytes"], r["arrived"] - r["sent"]) for r in log if r["bytes"] and r["sent"] >= r["asked"]])
    usual = {n: np.median(kept[kept[:, 0] == n, 1]) for n in set(kept[:, 0])}
    near = np.array([abs(t / usual[n] - 1) < 0.5 for n, t in kept])
    n, t = kept[near].T
    table = np.stack([1 / t, n / t], axis=1)
    latency, each = np.linalg.lstsq(table, np.ones(len(t)), rcond=None)[0]
    return latency, 1 / each
