from statistics import median


def waiting_and_transfer(asked, sent, arrived):
    return max(0.0, sent - asked), arrived - max(asked, sent)


def totals(log):
    found = {}
    for row in log:
        compute, waiting, transfer = found.get(row["rank"], (0.0, 0.0, 0.0))
        compute += row["ended"] - row["started"]
        if row["bytes"]:
            more = waiting_and_transfer(row["asked"], row["sent"], row["arrived"])
            waiting, transfer = waiting + more[0], transfer + more[1]
        found[row["rank"]] = compute, waiting, transfer
    return found


def fit(log):
    ways = {}
    for row in log:
        if row["bytes"] and row["asked"] <= row["sent"]:
            ways.setdefault(row["bytes"], []).append(row["arrived"] - row["sent"])
    sizes = sorted(ways)
    times = [median(ways[size]) for size in sizes]
    mean_size, mean_time = sum(sizes) / len(sizes), sum(times) / len(times)
    slope = sum((n - mean_size) * (t - mean_time) for n, t in zip(sizes, times))
    slope /= sum((n - mean_size) ** 2 for n in sizes)
    return mean_time - slope * mean_size, 1 / slope
