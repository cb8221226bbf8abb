"""Exercise 02. Real models with boundaries of their own; between the two parts travel bytes and nothing else."""

import random

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipelab.grading.checks import close, plain

READ = "Read again: notebook 01 (Naive model parallelism), section “Split a model by hand”."
LOSS = functional.mse_loss


def wire(value, what):
    """What arrives on the other rank: the values, in memory of its own, without a graph."""
    value = plain(value, torch.Tensor, what)
    assert not value.requires_grad, (
        f"{what} still carries its graph, which no network can send: detach() gives the values alone. {READ}"
    )
    return torch.frombuffer(bytearray(value.contiguous().numpy().tobytes()), dtype=value.dtype).reshape(value.shape)


def problems(seed, count=3):
    """(layers, boundary, x, y): models of several depths and widths, in double precision; both parts have weights."""
    draw = random.Random(seed)
    for number in range(count):
        torch.manual_seed(seed % 2**31 + number)
        widths = [draw.randint(2, 7) for _ in range(draw.randint(3, 5))]
        layers = []
        for a, b in zip(widths, widths[1:]):
            layers += [nn.Linear(a, b).double(), nn.Tanh()]
        batch = draw.randint(2, 6)
        x, y = torch.randn(batch, widths[0]).double(), torch.randn(batch, widths[-1]).double()
        yield layers, draw.randint(1, len(layers) - 2), x, y


def two(handle, what):
    """The two things of a pair. They stay where the student's code runs."""
    pair = handle.parts()
    assert len(pair) == 2, f"{what} should give two things, but gives {len(pair)}"
    return pair


def parts_of(student, layers, boundary):
    return two(student.split.keep(layers, boundary), "split")


def first_forward(student, part, x):
    """(what arrives on the other rank, what is kept)"""
    sent, kept = two(student.first_forward.keep(part, x), "first_forward")
    return wire(sent.value(), "what is sent"), kept


def last_forward(student, part, received, y):
    """(the loss, what is kept)"""
    loss, kept = two(student.last_forward.keep(part, received, y, LOSS), "last_forward")
    return loss.value(), kept


def whole(layers, x, y):
    """(loss, gradients) of the unsplit model; .grad is left empty."""
    model = nn.Sequential(*layers)
    model.zero_grad()
    loss = LOSS(model(x), y)
    loss.backward()
    found = [p.grad for p in model.parameters()]
    model.zero_grad()
    return loss.item(), found


def compare(layers, right, where, boundary):
    for index, layer in enumerate(layers):
        first = "The first part goes on with the gradient that came, and nothing else: output.backward(gradient)."
        last = "last_backward adds to .grad: what other micro-batches have added stays, so nothing is set to zero there."
        for name, found in layer.gradients().items():
            wanted = right.pop(0)
            assert found is not None, (
                f"{where}: {name} of layer {index} got no gradient. Either the backward never came here, or these are copies: "
                f"the parts must hold the very same layers. {READ}"
            )
            assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-12), (
                f"{where}: the gradient of {name} of layer {index}, in the {'first' if index < boundary else 'last'} part, is not "
                f"the whole model's. {first if index < boundary else last} {READ}"
            )


@pytest.mark.points(1, "two parts with the very same layers")
def test_split(student, guest, student_seed, case):
    for layers, boundary, _, _ in case.each(problems(10), problems(student_seed)):
        with case:
            there = [guest.put(layer) for layer in layers]
            parts = [part.parts() for part in parts_of(student, there, boundary)]
            counts = [len(part) for part in parts]
            assert counts == [boundary, len(layers) - boundary], (
                f"{len(layers)} layers at boundary {boundary} should give {boundary} and {len(layers) - boundary}, but give "
                f"{counts[0]} and {counts[1]}: the first part holds layers 0 to boundary − 1. {READ}"
            )
            assert parts[0] + parts[1] == there, (
                f"The parts should hold the very same layers in their order; copies have weights of their own. {READ}"
            )


@pytest.mark.points(2, "the forward: what is sent has no graph, the loss is the whole model's")
def test_forward(student, guest, student_seed, case):
    for layers, boundary, x, y in case.each(problems(11), problems(student_seed + 1)):
        with case:
            first, last = parts_of(student, [guest.put(layer) for layer in layers], boundary)
            arrived, _ = first_forward(student, first, x)
            right = nn.Sequential(*layers[:boundary])(x)
            assert torch.equal(arrived, right), f"What is sent should be the output of layers 0 to {boundary - 1}. {READ}"
            loss, _ = last_forward(student, last, arrived, y)
            close(loss, whole(layers, x, y)[0], "the loss")


@pytest.mark.points(2, "the gradient that is sent back")
def test_gradient_across(student, guest, student_seed, case):
    for layers, boundary, x, y in case.each(problems(12), problems(student_seed + 2)):
        with case:
            _, last = parts_of(student, [guest.put(layer) for layer in layers], boundary)
            arrived = nn.Sequential(*layers[:boundary])(x).detach().requires_grad_()
            output = nn.Sequential(*layers[boundary:])(arrived)
            (right,) = torch.autograd.grad(LOSS(output, y), arrived)
            _, kept = last_forward(student, last, arrived.detach(), y)
            gradient = student.last_backward(kept)
            assert gradient is not None, (
                f"last_backward gave no gradient: what arrives is a plain tensor, and autograd computes the gradient of an input "
                f"only if asked for it before the forward: requires_grad_(). {READ}"
            )
            gradient = wire(gradient, "the gradient")
            assert gradient.shape == right.shape, (
                f"The gradient should have the shape of what was received, {tuple(right.shape)}, but has {tuple(gradient.shape)}. "
                f"{READ}"
            )
            assert torch.allclose(gradient, right, rtol=1e-9, atol=1e-12), (
                f"The gradient is not that of the loss for what was received. {READ}"
            )


@pytest.mark.points(3, "every gradient equals the whole model's")
def test_gradients(student, guest, student_seed, case):
    for layers, boundary, x, y in case.each(problems(13), problems(student_seed + 3)):
        with case:
            there = [guest.put(layer) for layer in layers]
            first, last = parts_of(student, there, boundary)
            arrived, kept = first_forward(student, first, x)
            _, kept_last = last_forward(student, last, arrived, y)
            student.first_backward(kept, wire(student.last_backward(kept_last), "the gradient"))
            compare(there, whole(layers, x, y)[1], f"{len(layers)} layers, boundary {boundary}", boundary)


@pytest.mark.points(2, "two micro-batches between forward and backward at once")
def test_two_in_flight(student, guest, student_seed, case):
    for layers, boundary, x, y in case.each(problems(14), problems(student_seed + 4)):
        with case:
            there = [guest.put(layer) for layer in layers]
            first, last = parts_of(student, there, boundary)
            batches = [(x, y), (x.flip(0) * 2, y - 1)]
            right = [a + b for a, b in zip(*(whole(layers, *batch)[1] for batch in batches))]
            sent = [first_forward(student, first, a) for a, _ in batches]
            ahead = [last_forward(student, last, arrived, b) for (arrived, _), (_, b) in zip(sent, batches)]
            for (_, kept), (_, kept_last) in zip(sent, ahead):
                student.first_backward(kept, wire(student.last_backward(kept_last), "the gradient"))
            compare(there, right, "two micro-batches in flight, whose gradients add up", boundary)
