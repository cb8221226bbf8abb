"""Exercise 03. Batches of sizes that do not come out even; a real model's gradients against those of the whole batch."""

import random

import pytest
import torch
from torch.nn import functional

from pipelab.grading.checks import close, plain
from pipelab.grading.room import Watched

READ = "Read again: notebook 02 (Micro-batches and GPipe), section “Uneven tails and the loss scale”."


BATCHES = ((6, 3), (8, 2), (10, 4), (7, 1), (5, 5), (23, 11))
"""Samples and micro-batches: even, uneven, one micro-batch, one sample each, numbers of two digits."""


def batches(seed, count=3):
    """Draw uneven ones."""
    draw = random.Random(seed)
    for _ in range(count):
        microbatches = draw.randint(2, 6)
        yield microbatches * draw.randint(1, 4) + draw.randint(1, microbatches - 1), microbatches


def problem(seed, samples):
    """A small model in double precision, and a batch."""
    torch.manual_seed(seed % 2**31)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).double()
    return model, torch.randn(samples, 4).double(), torch.randn(samples, 3).double()


def joined(gradients, model):
    """The gradients of a model's parameters as one vector; where there are none, zeros."""
    pairs = zip(gradients, model.parameters())
    return torch.cat([g.flatten() if g is not None else torch.zeros(p.numel()).double() for g, p in pairs])


def accumulate(student, guest, model, x, y, microbatches, before=None):
    """(what the student's function returns, the gradients after it). before: what each .grad holds before."""
    there = guest.put(model)
    if before is not None:
        for p in guest.do(list, guest.do(torch.nn.Module.parameters, there)).parts():
            guest.do(setattr, p, "grad", guest.do(torch.full_like, p, before))
    loss = student.accumulate(there, functional.mse_loss, x, y, microbatches)
    return loss, joined(there.gradients().values(), model)


def of_the_whole(model, x, y):
    """(loss, gradients) of the batch in one piece; .grad is left empty."""
    model.zero_grad()
    loss = functional.mse_loss(model(x), y)
    loss.backward()
    found = joined([p.grad for p in model.parameters()], model)
    model.zero_grad()
    return loss.item(), found


def same(found, expected, hints, case):
    """Compares gradients. hints: (wrong gradients, what to think about)."""
    if not torch.allclose(found, expected, rtol=1e-9, atol=1e-12):
        hint = next((text for wrong, text in hints if torch.allclose(found, wrong, rtol=1e-6, atol=1e-9)), "")
        ratio = float(found @ expected / (expected @ expected))
        raise AssertionError(f"{case}: the gradients are not the whole batch's (about {ratio:.3g} times as large). {hint} {READ}")


def problems(seed, sizes):
    """(samples, micro-batches, model, x, y)"""
    for number, (samples, microbatches) in enumerate(sizes):
        yield samples, microbatches, *problem(seed + number, samples)


@pytest.mark.points(1, "sizes as torch.tensor_split makes them")
def test_sizes(student, student_seed, case):
    for samples, microbatches in case.each(BATCHES, batches(student_seed)):
        right = [len(piece) for piece in torch.zeros(samples).tensor_split(microbatches)]
        wrong = {
            tuple(len(piece) for piece in torch.zeros(samples).chunk(microbatches)):
                "That is torch.chunk: it rounds up, so that the last piece is short, or missing.",
            tuple(sorted(right)): "The longer ones come first.",
            (samples // microbatches,) * microbatches: "The samples that are left over belong to the batch, too.",
        }  # fmt: skip
        with case:
            answer = [plain(n, int, "a size") for n in plain(student.sizes_of(samples, microbatches), list, "sizes_of(…)")]
            assert answer == right, (
                f"{samples} samples in {microbatches} micro-batches should be {right}, but are {answer}. "
                f"{wrong.get(tuple(answer), '')} {READ}"
            )


@pytest.mark.points(1, "split and merge keep every sample, in order")
def test_split_and_merge(student, student_seed, case):
    for samples, microbatches in case.each(BATCHES, batches(student_seed + 1)):
        x = torch.arange(samples * 2.0).reshape(samples, 2)
        right = x.tensor_split(microbatches)
        with case:
            pieces = [plain(piece.value(), torch.Tensor, "a piece") for piece in student.split.keep(x, microbatches).parts()]
            shapes, wanted = [tuple(p.shape) for p in pieces], [tuple(p.shape) for p in right]
            assert shapes == wanted, (
                f"{samples} samples in {microbatches}: the shapes should be {wanted}, but are {shapes}. {READ}"
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


@pytest.mark.points(2, "the gradients are the whole batch's, the tail uneven or not")
def test_gradients(student, guest, student_seed, case):
    own = problems(student_seed, batches(student_seed + 2))
    for samples, microbatches, model, x, y in case.each(problems(1, BATCHES), own):
        _, right = of_the_whole(model, x, y)
        pieces = [of_the_whole(model, a, b)[1] for a, b in zip(x.tensor_split(microbatches), y.tensor_split(microbatches))]
        hints = [
            (sum(pieces), "The micro-batches' means are added up: each loss has to be scaled first."),
            (sum(pieces) / microbatches, "Each micro-batch counts 1/m, but a shorter one has fewer samples: n/N is its share."),
            (pieces[-1] * len(x.tensor_split(microbatches)[-1]) / samples, "Only the last micro-batch counts: .grad adds up."),
        ]
        with case:
            _, found = accumulate(student, guest, model, x, y, microbatches)
            same(found, right, hints, f"{samples} samples in {microbatches} micro-batches")


@pytest.mark.points(1, "one micro-batch at a time, which is what saves the memory")
def test_one_at_a_time(student, guest, case):
    for samples, microbatches, model, x, y in case.each(problems(2, BATCHES)):
        right = [len(piece) for piece in x.tensor_split(microbatches)]
        with case:
            watched = guest.do(Watched, functional.mse_loss)
            student.accumulate(guest.put(model), watched, x, y, microbatches)
            seen = guest.do(getattr, watched, "samples").value()
            assert seen == right, (
                f"loss_fn should see one micro-batch at a time, {right} samples, but saw {seen}. With the whole batch at once the "
                f"gradients are the same, and so is the memory that micro-batches were to save. {READ}"
            )


@pytest.mark.points(2, "what .grad held before stays: the loss is scaled, not the gradient")
def test_grad_is_added_to(student, guest, student_seed, case):
    own = problems(student_seed, batches(student_seed + 3))
    for samples, microbatches, model, x, y in case.each(problems(3, BATCHES), own):
        _, right = of_the_whole(model, x, y)
        hint = "Something else than the scaled losses' backward changed .grad, which other micro-batches had added to."
        with case:
            _, after = accumulate(student, guest, model, x, y, microbatches, before=1.0)
            text = f"{samples} samples in {microbatches}, .grad 1 before: after it, less that 1"
            same(after - 1, right, [(right - 1, f"What was in .grad before is gone. {hint}"), (after - 1, hint)], text)


@pytest.mark.points(1, "the loss returned is the whole batch's")
def test_loss(student, guest, student_seed, case):
    own = problems(student_seed, batches(student_seed + 4))
    for _, microbatches, model, x, y in case.each(problems(4, BATCHES), own):
        right, _ = of_the_whole(model, x, y)
        parts = [of_the_whole(model, a, b)[0] for a, b in zip(x.tensor_split(microbatches), y.tensor_split(microbatches))]
        hints = {
            sum(parts): f"That is the sum of the micro-batches' means. {READ}",
            sum(parts) / microbatches: f"The mean of the means: micro-batches of different sizes do not count alike. {READ}",
            parts[-1]: f"That is the last micro-batch's. {READ}",
        }
        with case:
            loss, _ = accumulate(student, guest, model, x, y, microbatches)
            close(plain(loss, float, "the loss"), right, "the loss", hints)
