from itertools import combinations


def held(kept, inputs, recompute, in_flight):
    return in_flight * sum(inputs[i] if i in recompute else kept[i] for i in range(len(kept)))


def policy(forward, kept, inputs, in_flight, budget):
    best, least = None, float("inf")
    for count in range(len(kept) + 1):
        for chosen in combinations(range(len(kept)), count):
            time = sum(forward[i] for i in chosen)
            if time < least and held(kept, inputs, chosen, in_flight) <= budget:
                best, least = list(chosen), time
    return best
