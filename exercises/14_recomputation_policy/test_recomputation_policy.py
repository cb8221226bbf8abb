"""Exercise 14. All policies are tried for comparison; at the end a model trains with the student's, and its bytes are measured."""

import random

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import pipelab
from pipelab.grading.checks import plain
from pipelab.model import workload

READ = "Read again: notebook 07 (Memory and recomputation), section “Recomputation”."
CASES = (
    ([5, 2, 1], [8, 6, 4], [1, 1, 1], 2, 26),
    ([1, 1, 1, 1], [9, 9, 9, 9], [1, 1, 1, 1], 4, 80),
    ([3, 4, 5], [7, 9, 11], [1, 1, 1], 1, 17),
    ([10, 10, 3], [60, 60, 21], [1, 1, 1], 1, 82),
    ([4, 6, 7, 3], [21, 31, 33, 18], [1, 1, 3, 2], 1, 52),
    ([2, 1, 1], [5, 9, 9], [5, 1, 1], 3, 30),
    ([1, 2], [5, 6], [1, 2], 3, 9),
    ([1, 1], [5, 5], [1, 1], 2, 12),
    ([1, 2, 3, 4, 5, 6, 7, 8], [9, 8, 7, 6, 9, 8, 7, 6], [1, 2, 3, 1, 2, 3, 1, 2], 4, 160),
)
"""Forward seconds, bytes kept, bytes of the input, in flight, budget: among them those where a greedy choice is not the best."""


def draws(seed, count=4):
    draw = random.Random(seed)
    for _ in range(count):
        n = draw.randint(4, 9)
        inputs = [draw.randint(1, 4) for _ in range(n)]
        kept = [low + draw.randint(0, 30) for low in inputs]
        in_flight = draw.randint(1, 6)
        least, most = in_flight * sum(inputs), in_flight * sum(kept)
        yield [draw.randint(1, 20) for _ in range(n)], kept, inputs, in_flight, draw.randint(least, most)


def bytes_of(kept, inputs, chosen, in_flight):
    return in_flight * sum(inputs[i] if i in chosen else kept[i] for i in range(len(kept)))


def every(layers):
    for number in range(2**layers):
        yield [i for i in range(layers) if number >> i & 1]


def best_of(forward, kept, inputs, in_flight, budget):
    """The policy with the least additional time that fits, or None."""
    fitting = [p for p in every(len(kept)) if bytes_of(kept, inputs, p, in_flight) <= budget]
    return min(fitting, key=lambda p: sum(forward[i] for i in p), default=None)


def chosen_by(student, forward, kept, inputs, in_flight, budget, what):
    """The policy, if it is one; None as it comes."""
    found = student.policy(list(forward), list(kept), list(inputs), in_flight, budget)
    if found is None:
        return None
    layers = [plain(i, int, f"a layer in {what}") for i in plain(found, list, what)]
    assert all(0 <= i < len(kept) for i in layers), f"{what} is {layers}: the layers are 0 to {len(kept) - 1}. {READ}"
    assert len(set(layers)) == len(layers), f"{what} is {layers}: a layer stands there twice. {READ}"
    return sorted(layers)


def told(case):
    forward, kept, inputs, in_flight, budget = case
    return f"policy(forward={forward}, kept={kept}, inputs={inputs}, in_flight={in_flight}, budget={budget})"


@pytest.mark.points(1, "what is held with a policy")
def test_held(student, student_seed, case):
    for number, (_, kept, inputs, in_flight, _) in enumerate(case.each(CASES, draws(student_seed))):
        chosen = [i for i in range(len(kept)) if i % 2 == number % 2]
        right = bytes_of(kept, inputs, chosen, in_flight)
        one = bytes_of(kept, inputs, chosen, 1)
        left = sum(kept[i] for i in range(len(kept)) if i not in chosen)
        with case:
            what = f"held({kept}, {inputs}, {chosen}, {in_flight})"
            found = plain(student.held(list(kept), list(inputs), list(chosen), in_flight), int, what)
            hints = {
                in_flight * left: "A layer that is recomputed still keeps its input: without it, it could not run again.",
                one: "That is one micro-batch. All that are in flight are held at once.",
                in_flight * (left + sum(kept[i] + inputs[i] for i in chosen)): "A recomputed layer keeps its input in place of the rest, not on top of it.",
                in_flight * sum(kept[i] if i in chosen else inputs[i] for i in range(len(kept))): "The other way round: `recompute` names the layers that keep their input alone.",
            }
            assert found == right, f"{what} should be {right}, but is {found}. {hints.get(found, '')} {READ}"


@pytest.mark.points(2, "the policy keeps within the budget")
def test_fits(student, student_seed, case):
    for each in case.each(CASES, draws(student_seed + 1)):
        forward, kept, inputs, in_flight, budget = each
        what, right = told(each), best_of(*each)
        with case:
            found = chosen_by(student, *each, what)
            if right is None:
                continue
            assert found is not None, f"{what} is None, but {right} fits. Exactly the budget is fine. {READ}"
            needs = bytes_of(kept, inputs, found, in_flight)
            hint = ""
            if bytes_of(kept, inputs, found, 1) <= budget:
                hint = f"One micro-batch would fit, but {in_flight} are in flight."
            elif in_flight * sum(kept[i] for i in range(len(kept)) if i not in found) <= budget:
                hint = "The inputs of the recomputed layers are held, too."
            assert needs <= budget, f"{what}: with {found} the rank holds {needs} bytes, more than {budget}. {hint} {READ}"


@pytest.mark.points(3, "in the least additional time")
def test_least(student, student_seed, case, credit):
    for each in case.each(CASES, draws(student_seed + 2)):
        forward, kept, inputs, in_flight, budget = each
        what, right = told(each), best_of(*each)
        with case:
            found = chosen_by(student, *each, what)
            if right is None:
                assert found is None, f"{what}: nothing fits, so it should be None. {READ}"
                continue
            assert found is not None, f"{what} is None, but {right} fits. {READ}"
            assert bytes_of(kept, inputs, found, in_flight) <= budget, f"{what}: {found} does not fit. {READ}"
            took, least = (sum(forward[i] for i in p) for p in (found, right))
            hint = "Taking layer after layer, the one first that gives back most per second, is not always the best: the last one may give back more than is needed."
            if found == list(range(len(kept))):
                hint = "That is every layer. Only as much as the budget asks for has to run again."
            assert took <= least + 1e-9, f"{what}: {found} runs forwards of {took:g} seconds again, but {right} fits, too, in {least:g}. {hint} {READ}"


@pytest.mark.points(1, "nothing where all fits, None where nothing does")
def test_ends(student, case):
    for number, each in enumerate(case.each((
        ([1, 2], [5, 6], [1, 2], 3, 33), ([1, 2], [5, 6], [1, 2], 3, 9), ([1, 2], [5, 6], [1, 2], 3, 8), ([2], [3], [3], 1, 2),
    ))):
        right = ([], [0, 1], None, None)[number]
        with case:
            found = chosen_by(student, *each, told(each))
            hint = "Exactly the budget fits, and what fits as it is needs no recomputation." if right == [] else "Exactly the budget fits; below what the inputs take, nothing does."
            assert found == right, f"{told(each)} should be {right}, but is {found}. {hint} {READ}"


class Again(nn.Module):
    """A layer that keeps its input alone, and runs again for its backward."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return checkpoint(self.layer, x, use_reentrant=False)


@pytest.mark.points(1, "a model trains with it, and holds no more than the budget")
def test_it_trains(student, case):
    torch.manual_seed(0)
    job = workload("gpt", layers=6, width=16, batch=6)
    batch, m = job.batches(0), 3
    profile = pipelab.profile(job.model, *batch, job.loss_fn, microbatches=m, repeats=1, device="cpu")
    for share in case.each((0.3, 0.7)):
        blocks = profile.layers[1:4]  # rank 0 holds the embedding and three blocks; two micro-batches are in flight
        kept, inputs = [b.activation_bytes for b in blocks], [b.output_bytes for b in blocks]
        first, forward = 2 * profile.layers[0].activation_bytes, [3, 2, 4]
        budget = int(2 * (sum(inputs) + share * (sum(kept) - sum(inputs))))
        with case:
            chosen = chosen_by(student, forward, kept, inputs, 2, budget, "the policy of three blocks of a GPT") or []
            model = [Again(layer) if i - 1 in chosen else layer for i, layer in enumerate(job.model)]
            run = pipelab.run(model, *batch, job.loss_fn, schedule="1f1b", ranks=2, microbatches=m, partition=[4, 2], device="cpu")
            found = run.peak_activation_bytes[0] - first
            assert found <= budget, (
                f"With {chosen} the three blocks hold {found:,} bytes when they train, and the budget is {budget:,}: two micro-batches "
                f"are in flight, and of a recomputed layer the input stays. {READ}"
            )
            assert run.gradient_error <= 1e-5, "Recomputation must not change the gradients."
