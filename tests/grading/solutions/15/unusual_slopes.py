"""Right, and unlike the others: the median of all slopes between pairs of messages (Theil and Sen); those asked for in time."""

import numpy as np


def waiting_and_transfer(asked, sent, arrived):
    still = arrived - asked
    waiting = min(still, max(sent - asked, 0.0))
    return [waiting, still - waiting]


def totals(log):
    result = {}
    for rank in {row["rank"] for row in log}:
        mine = [row for row in log if row["rank"] == rank]
        pairs = [waiting_and_transfer(r["asked"], r["sent"], r["arrived"]) for r in mine if r["sent"] is not None]
        result[rank] = (
            float(sum(r["ended"] - r["started"] for r in mine)),
            float(sum(w for w, _ in pairs)),
            float(sum(t for _, t in pairs)),
        )
    return result


def fit(log):
    rows = [r for r in log if r["sent"] is not None and r["arrived"] > r["asked"] + 1e-9]
    n = np.array([r["bytes"] for r in rows], float)
    t = np.array([r["arrived"] - r["sent"] for r in rows])
    i, j = np.triu_indices(len(n), 1)
    apart = n[i] != n[j]
    slope = np.median((t[i] - t[j])[apart] / (n[i] - n[j])[apart])
    return float(np.median(t - slope * n)), float(1 / slope)
