"""Right, and unlike the others: a rank's order is walked, and the largest sum of what is held is kept."""

from itertools import accumulate


def _order(rank, ranks, m, schedule):
    """+1 for a forward, −1 for a backward."""
    ahead = m if schedule == "gpipe" else min(m, ranks - rank - 1)
    row = [1] * ahead
    for _ in range(m - ahead):
        row += [1, -1]
    return row + [-1] * ahead


def in_flight(rank, ranks, microbatches, schedule):
    return max(accumulate(_order(rank, ranks, microbatches, schedule)))


def _levels(profile, sizes, schedule, m, each):
    ends, p = list(accumulate(sizes)), len(sizes)
    result = []
    for s, (end, n) in enumerate(zip(ends, sizes)):
        one, fixed = each(profile["layers"][end - n : end], s == p - 1)
        result.append(max(fixed + held * one for held in accumulate(_order(s, p, m, schedule))))
    return result


def activations(profile, sizes, schedule, microbatches):
    def each(layers, last):
        loss = profile["loss"]["activation_bytes"] if last else 0
        return layers[0]["saved_input_bytes"] + loss + sum(x["activation_bytes"] for x in layers), 0

    return _levels(profile, sizes, schedule, microbatches, each)


def total(profile, sizes, schedule, microbatches, optimizer):
    copies = {"sgd": 2, "momentum": 3, "adam": 4}[optimizer]

    def each(layers, last):
        loss = profile["loss"]["activation_bytes"] if last else 0
        one = layers[0]["saved_input_bytes"] + loss + sum(x["activation_bytes"] for x in layers)
        return one, copies * sum(x["parameter_bytes"] for x in layers)

    return _levels(profile, sizes, schedule, microbatches, each)
