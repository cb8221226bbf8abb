"""Right, and unlike the others: the simulator counts what is in flight, and numpy adds up; the answers are floats."""

import numpy as np

import pipelab


def in_flight(rank, ranks, microbatches, schedule):
    order = pipelab.build(schedule, ranks=ranks, microbatches=microbatches)
    return pipelab.simulate(order).metrics["peak_in_flight"][rank]


def activations(profile, sizes, schedule, microbatches):
    kept = np.array([layer["activation_bytes"] for layer in profile["layers"]], float)
    kept[-1] += profile["loss"]["activation_bytes"]
    starts = np.cumsum([0, *sizes[:-1]])
    entering = np.array([layer["saved_input_bytes"] for layer in profile["layers"]], float)[starts]
    counts = [in_flight(s, len(sizes), microbatches, schedule) for s in range(len(sizes))]
    return list((np.add.reduceat(kept, starts) + entering) * np.array(counts))


def total(profile, sizes, schedule, microbatches, optimizer):
    weights = np.array([layer["parameter_bytes"] for layer in profile["layers"]], float)
    copies = 2 + ["sgd", "momentum", "adam"].index(optimizer)
    starts = np.cumsum([0, *sizes[:-1]])
    return list(copies * np.add.reduceat(weights, starts) + np.array(activations(profile, sizes, schedule, microbatches)))
