"""Exercise 03. Batches of sizes that do not come out even; a real model's gradients against those of the whole batch."""

import random

import pytest
import torch
from torch.nn import functional

from pipelab.grading.checks import close, plain

READ = "Read again: notebook 02 (Micro-batches and GPipe), section “Uneven tails and the loss scale”."


def batches(seed):
    """(samples, micro-batches): uneven ones, one micro-batch, one sample each."""
    draw = random.Random(seed)
    yield from ((10, 4), (7, 1), (5, 5))
    for _ in range(5):
        microbatches = draw.randint(2, 6)
        yield microbatches * draw.randint(1, 4) + draw.randint(1, microbatches - 1), microbatches


def problem(seed, samples):
    """A small model in double precision, and a batch."""
    torch.manual_seed(seed % 2**31)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).double()
    return model, torch.randn(samples, 4).double(), torch.randn(samples, 3).double()


def gradients(model):
    return torch.cat([p.grad.flatten() if p.grad is not None else torch.zeros(p.numel()).double() for p in model.parameters()])


def of_the_whole(model, x, y):
    """(loss, gradients) of the batch in one piece; .grad is left empty."""
    model.zero_grad()
    loss = functional.mse_loss(model(x), y)
    loss.backward()
    found = gradients(model)
    model.zero_grad()
    return loss.item(), found


def same(found, expected, hints, case):
    """Compares gradients. hints: (wrong gradients, what to think about)."""
    if not torch.allclose(found, expected, rtol=1e-9, atol=1e-12):
        hint = next((text for wrong, text in hints if torch.allclose(found, wrong, rtol=1e-6, atol=1e-9)), "")
        ratio = float(found @ expected / (expected @ expected))
        raise AssertionError(f"{case}: the gradients are not the whole batch's (about {ratio:.3g} times as large). {hint} {READ}")


@pytest.mark.points(1, "sizes as torch.tensor_split makes them")
def test_sizes(student, student_seed):
    for samples, microbatches in batches(student_seed):
        right = [len(piece) for piece in torch.zeros(samples).tensor_split(microbatches)]
        answer = [plain(n, int, "a size") for n in plain(student.sizes_of(samples, microbatches), list, "sizes_of(…)")]
        wrong = {
            tuple(len(piece) for piece in torch.zeros(samples).chunk(microbatches)):
                "That is torch.chunk: it rounds up, so that the last piece is short, or missing.",
            tuple(sorted(right)): "The longer ones come first.",
            (samples // microbatches,) * microbatches: "The samples that are left over belong to the batch, too.",
        }  # fmt: skip
        assert answer == right, (
            f"{samples} samples in {microbatches} micro-batches should be {right}, but are {answer}. "
            f"{wrong.get(tuple(answer), '')} {READ}"
        )


@pytest.mark.points(1, "split and merge keep every sample, in order")
def test_split_and_merge(student, student_seed):
    for samples, microbatches in batches(student_seed + 1):
        x = torch.arange(samples * 2.0).reshape(samples, 2)
        pieces = list(student.split(x, microbatches))
        right = x.tensor_split(microbatches)
        assert [tuple(p.shape) for p in pieces] == [tuple(p.shape) for p in right], (
            f"{samples} samples in {microbatches}: the shapes should be {[tuple(p.shape) for p in right]}, but are "
            f"{[tuple(p.shape) for p in pieces]}. {READ}"
        )
        for i, (piece, wanted) in enumerate(zip(pieces, right)):
            assert torch.equal(piece, wanted), (
                f"Micro-batch {i} has other samples than it should: they follow one another as in the batch. {READ}"
            )
        merged = plain(student.merge(list(right)), torch.Tensor, "merge(pieces)")
        assert merged.shape == x.shape, (
            f"merge should give {tuple(x.shape)}, but gives {tuple(merged.shape)}: join along the first dimension. {READ}"
        )
        assert torch.equal(merged, x), f"merge should give the samples back in the order of the micro-batches. {READ}"


@pytest.mark.points(3, "the gradients are the whole batch's, the tail uneven or not")
def test_gradients(student, student_seed, credit):
    even = [(6, 3), (8, 2)]
    for number, (samples, microbatches) in enumerate([*even, *batches(student_seed + 2)]):
        model, x, y = problem(student_seed + number, samples)
        _, right = of_the_whole(model, x, y)
        pieces = [of_the_whole(model, a, b)[1] for a, b in zip(x.tensor_split(microbatches), y.tensor_split(microbatches))]
        student.accumulate(model, functional.mse_loss, x, y, microbatches)
        hints = [
            (sum(pieces), "The micro-batches' means are added up: each loss has to be scaled first."),
            (sum(pieces) / microbatches, "Each micro-batch counts 1/m, but a shorter one has fewer samples: n/N is its share."),
            (pieces[-1] * len(x.tensor_split(microbatches)[-1]) / samples, "Only the last micro-batch counts: .grad adds up."),
        ]
        if number == len(even):
            credit(0.3, "With micro-batches of one size the gradients are right.")
        same(gradients(model), right, hints, f"{samples} samples in {microbatches} micro-batches")


@pytest.mark.points(2, "what .grad held before stays: the loss is scaled, not the gradient")
def test_grad_is_added_to(student, student_seed):
    for number, (samples, microbatches) in enumerate(batches(student_seed + 3)):
        model, x, y = problem(student_seed + number, samples)
        _, right = of_the_whole(model, x, y)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        student.accumulate(model, functional.mse_loss, x, y, microbatches)
        case = f"{samples} samples in {microbatches}, .grad 1 before: after it, less that 1"
        hint = "Something else than the scaled losses' backward changed .grad, which other micro-batches had added to."
        found = gradients(model) - 1
        same(found, right, [(right - 1, f"What was in .grad before is gone. {hint}"), (found, hint)], case)


@pytest.mark.points(1, "the loss returned is the whole batch's")
def test_loss(student, student_seed):
    for number, (samples, microbatches) in enumerate(batches(student_seed + 4)):
        model, x, y = problem(student_seed + number, samples)
        right, _ = of_the_whole(model, x, y)
        parts = [of_the_whole(model, a, b)[0] for a, b in zip(x.tensor_split(microbatches), y.tensor_split(microbatches))]
        hints = {
            sum(parts): f"That is the sum of the micro-batches' means. {READ}",
            sum(parts) / microbatches: f"The mean of the means: micro-batches of different sizes do not count alike. {READ}",
            parts[-1]: f"That is the last micro-batch's. {READ}",
        }
        close(student.accumulate(model, functional.mse_loss, x, y, microbatches), right, "the loss", hints)
