"""Right, and unlike the others: branch and bound by recursion, dearest layer first; a mask of bits."""


def held(kept, inputs, recompute, in_flight):
    mask = sum(1 << i for i in recompute)
    return sum((inputs if mask >> i & 1 else kept)[i] * in_flight for i in range(len(kept)))


def policy(forward, kept, inputs, in_flight, budget):
    order = sorted(range(len(kept)), key=lambda i: -forward[i])
    best = [float("inf"), None]

    def go(place, needs, seconds, chosen):
        if seconds >= best[0]:
            return
        if needs <= budget:
            best[:] = [seconds, chosen]
            return
        if place == len(order) or needs - sum(in_flight * max(0, kept[i] - inputs[i]) for i in order[place:]) > budget:
            return
        i = order[place]
        go(place + 1, needs, seconds, chosen)
        go(place + 1, needs - in_flight * (kept[i] - inputs[i]), seconds + forward[i], chosen + [i])

    go(0, in_flight * sum(kept), 0, [])
    return best[1]
