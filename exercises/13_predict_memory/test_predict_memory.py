"""Exercise 13. Predictions from profiles, against the bytes that runs of these models in worker processes hold."""

from functools import lru_cache

import pytest
import torch

import pipelab
from pipelab.grading.checks import FEW, SIZES, plain, sizes
from pipelab.model import split, workload

READ = "Read again: notebook 07 (Memory and recomputation), section “Predicted and measured”."
OWN = "the exercise is to predict it yourself: this part of pipelab is closed while it is graded"
WITHOUT = {"pipelab.layout": OWN, "pipelab.engine": OWN}
NEAR = 0.05
RUNS = (
    ("gpt", [3, 1, 2], "1f1b", 6),
    ("gpt", [2, 2, 2], "gpipe", 4),
    ("mlp", [4, 2], "1f1b", 5),
)
"""Model, layers of each rank, schedule, micro-batches."""


@pytest.mark.points(1, "micro-batches in flight")
def test_in_flight(student, student_seed, case):
    for p, m in case.each((*SIZES, *FEW), sizes(student_seed)):
        for schedule in ("gpipe", "1f1b"):
            right = pipelab.simulate(pipelab.build(schedule, ranks=p, microbatches=m)).metrics["peak_in_flight"]
            with case:
                for s in range(p):
                    what = f"in_flight({s}, {p}, {m}, {schedule!r})"
                    count = plain(student.in_flight(s, p, m, schedule), int, what)
                    hints = {
                        p - s: "There are only m micro-batches: no more can be in flight.",
                        m: "That is GPipe. With 1F1B a rank holds no more than there are ranks from it to the end.",
                        min(m, p - s - 1): "The one whose backward is next is held, too.",
                        min(m, s + 1): "The first rank holds most: what it has sent ahead comes back last.",
                    }
                    if schedule == "gpipe":
                        hints = {min(m, p - s): "That is 1F1B. GPipe runs all forwards first, and holds all m."}
                    assert count == right[s], f"{what} should be {right[s]}, but is {count}. {hints.get(count, '')} {READ}"


@lru_cache(maxsize=None)
def measured(name, sizes, schedule, microbatches):
    """(the profile, bytes of activations of each rank) of a real run, and its model with batch and loss."""
    job = workload(name, layers=6, width=32 if name == "mlp" else 16, batch=2 * microbatches)
    batch = job.batches(0)
    profile = pipelab.profile(job.model, *batch, job.loss_fn, microbatches=microbatches, repeats=1, device="cpu")
    run = pipelab.run(
        job.model, *batch, job.loss_fn, schedule=schedule, ranks=len(sizes), microbatches=microbatches,
        partition=list(sizes), device="cpu",
    )
    return profile.to_json(), run.peak_activation_bytes, job


def of(sizes, rows):
    """The rows of each stage."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [rows[end - size : end] for end, size in zip(ends, sizes)]


def wrong_activations(profile, sizes, counts, microbatches):
    """Predictions that say what was forgotten."""
    layers = [layer["activation_bytes"] for layer in profile["layers"]]
    inputs = [part[0]["saved_input_bytes"] for part in of(sizes, profile["layers"])]
    own, loss = [sum(part) for part in of(sizes, layers)], profile["loss"]["activation_bytes"]
    last = [0] * (len(sizes) - 1) + [loss]
    saved_all = [sum(layer["saved_input_bytes"] for layer in part) for part in of(sizes, profile["layers"])]
    outputs = [sum(layer["output_bytes"] for layer in part) for part in of(sizes, profile["layers"])]
    ranks = range(len(sizes))
    return [
        ([a + i + e for a, i, e in zip(own, inputs, last)], "That is one micro-batch: as many as are in flight are held at once."),
        ([microbatches * (a + i + e) for a, i, e in zip(own, inputs, last)], "That is all m of them: 1F1B holds min(m, p − s) on rank s."),
        ([n * (a + i) for n, a, i in zip(counts, own, inputs)], "The loss saves tensors, too, on the last rank."),
        ([n * (a + e) for n, a, e in zip(counts, own, last)], "A stage also keeps its input, where its first layer saves it: saved_input_bytes."),
        ([n * (a + i + e) for n, a, i, e in zip(counts, own, saved_all, last)], "Within a stage the input of a layer is counted already, by the layer before: only the first layer's counts."),
        ([n * (a + i + loss) for n, a, i in zip(counts, own, inputs)], "Only the last rank computes the loss."),
        ([n * o for n, o in zip(counts, outputs)], "output_bytes are what is handed on. Much more is saved inside the layers."),
        ([counts[s] * (a + i) + e for s, a, i, e in zip(ranks, own, inputs, last)], "The loss is computed for every micro-batch in flight on the last rank."),
    ]


def near(found, right, what, wrong):
    """Compare with what was measured, rank by rank."""
    values = [plain(value, float, f"a value of {what}") for value in plain(found, list, what)]
    assert len(values) == len(right), f"{what} should have a value for each of the {len(right)} ranks, but has {len(values)}."
    off = [s for s, (value, truth) in enumerate(zip(values, right)) if abs(value - truth) > NEAR * truth]
    if not off:
        return
    hint = next((text for other, text in wrong if all(abs(v - o) <= 0.001 * max(o, 1) for v, o in zip(values, other))), "")
    s = off[0]
    raise AssertionError(
        f"{what}: rank {s} holds {right[s]:,.0f} bytes when it runs, and {values[s]:,.0f} are predicted, {values[s] / right[s] - 1:+.0%}.\n"
        f"measured  {[round(x) for x in right]}\n     got  {[round(x) for x in values]}\n{hint} {READ}"
    )


def held(sizes, schedule, m):
    p = len(sizes)
    return [m if schedule == "gpipe" else min(m, p - s) for s in range(p)]


def activations_of(student, run):
    name, sizes, schedule, m = run
    profile, right, _ = measured(name, tuple(sizes), schedule, m)
    what = f"activations of the {name}, cut as {sizes}, {schedule}, {m} micro-batches"
    found = student.activations(profile, list(sizes), schedule, m)
    near(found, right, what, wrong_activations(profile, sizes, held(sizes, schedule, m), m))


@pytest.mark.points(3, "activations of 1F1B, within 5 % of the measured bytes")
def test_1f1b(student, case):
    for run in case.each(run for run in RUNS if run[2] == "1f1b"):
        with case:
            activations_of(student, run)


@pytest.mark.points(1, "activations of GPipe, within 5 % of the measured bytes")
def test_gpipe(student, case):
    for run in case.each(run for run in RUNS if run[2] == "gpipe"):
        with case:
            activations_of(student, run)


COPIES = (
    "For each parameter there are its weight, its gradient, and what the optimizer keeps: 2, 3 or 4 numbers with sgd, momentum "
    "or adam."
)
MAKE = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.1),
}


def resident(job, sizes, optimizer):
    """(weights, states) of each rank in bytes: what torch holds after a step."""
    job.model.zero_grad()
    inputs, targets = job.batches(0)
    job.loss_fn(job.model(inputs), targets).backward()
    made = MAKE[optimizer](list(job.model.parameters()))
    made.step()
    found = []
    for part in split(job.model, len(sizes), list(sizes)):
        tensors = [t for p in part.parameters() for t in made.state[p].values() if torch.is_tensor(t) and t.shape == p.shape]
        found.append((sum(p.nbytes for p in part.parameters()), sum(t.nbytes for t in tensors)))
    return found


@pytest.mark.points(2, "with weights, gradients and the optimizer's state")
def test_total(student, case):
    for (name, sizes, schedule, m), optimizer in case.each(((RUNS[0], "adam"), (RUNS[1], "momentum"), (RUNS[2], "sgd"))):
        profile, kept, job = measured(name, tuple(sizes), schedule, m)
        rest = resident(job, sizes, optimizer)
        right = [a + 2 * w + states for a, (w, states) in zip(kept, rest)]
        weights = [w for w, _ in rest]
        states = [x for _, x in rest]
        wrong = [
            ([2 * w + x for w, x in zip(weights, states)], "The activations are missing."),
            *(([a + n * w for a, w in zip(kept, weights)], COPIES) for n in range(6)),
            ([a + sum(weights) * 2 + sum(states) for a in kept], "Each rank holds the weights of its own layers only."),
        ]
        what = f"total of the {name}, cut as {sizes}, {schedule}, {m} micro-batches, {optimizer}"
        with case:
            near(student.total(profile, list(sizes), schedule, m, optimizer), right, what, wrong)
