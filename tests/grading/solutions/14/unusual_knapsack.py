"""Right, and unlike the others: a knapsack of what may stay, layer by layer; of two states the one is dropped that is worse in both."""


def held(kept, inputs, recompute, in_flight):
    total = sum(kept)
    for layer in set(recompute):
        total -= kept[layer] - inputs[layer]
    return total * in_flight


def policy(forward, kept, inputs, in_flight, budget):
    states = [(0, 0, ())]
    for i, (seconds, full, small) in enumerate(zip(forward, kept, inputs)):
        grown = [(t, b + full * in_flight, c) for t, b, c in states]
        grown += [(t + seconds, b + small * in_flight, (i,) + c) for t, b, c in states]
        grown.sort(key=lambda state: state[:2])
        states, lowest = [], float("inf")
        for state in grown:
            if state[1] < lowest:
                states.append(state)
                lowest = state[1]
    fitting = [state for state in states if state[1] <= budget]
    return list(fitting[0][2]) if fitting else None
