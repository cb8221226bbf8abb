STATES = {"sgd": 0, "momentum": 1, "adam": 2}


def in_flight(rank, ranks, microbatches, schedule):
    return microbatches if schedule == "gpipe" else min(microbatches, ranks - rank)


def stages(profile, sizes):
    at, found = 0, []
    for size in sizes:
        found.append(profile["layers"][at : at + size])
        at += size
    return found


def activations(profile, sizes, schedule, microbatches):
    found = []
    for rank, layers in enumerate(stages(profile, sizes)):
        one = sum(layer["activation_bytes"] for layer in layers)
        one += layers[0]["saved_input_bytes"]
        if rank == len(sizes) - 1:
            one += profile["loss"]["activation_bytes"]
        found.append(one * in_flight(rank, len(sizes), microbatches, schedule))
    return found


def total(profile, sizes, schedule, microbatches, optimizer):
    found = activations(profile, sizes, schedule, microbatches)
    for rank, layers in enumerate(stages(profile, sizes)):
        weights = sum(layer["parameter_bytes"] for layer in layers)
        found[rank] += weights * (2 + STATES[optimizer])
    return found
