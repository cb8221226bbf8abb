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


def problems(seed, count=4):
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


def parts_of(student, layers, boundary):
    parts = student.split(layers, boundary)
    assert len(parts) == 2, f"split should give two parts, but gives {len(parts)}"
    return parts


def whole(layers, x, y):
    """(loss, gradients) of the unsplit model; .grad is left empty."""
    model = nn.Sequential(*layers)
    model.zero_grad()
    loss = LOSS(model(x), y)
    loss.backward()
    found = [p.grad for p in model.parameters()]
    model.zero_grad()
    return loss.item(), found


def compare(layers, right, where):
    for index, layer in enumerate(layers):
        for name, p in layer.named_parameters():
            wanted = right.pop(0)
            assert p.grad is not None, (
                f"{where}: {name} of layer {index} got no gradient. Either the backward never came here, or these are copies: "
                f"the parts must hold the very same layers. {READ}"
            )
            assert torch.allclose(p.grad, wanted, rtol=1e-9, atol=1e-12), (
                f"{where}: the gradient of {name} of layer {index} is not the whole model's. The first part goes on with the "
                f"gradient that came, and nothing else: output.backward(gradient). {READ}"
            )


@pytest.mark.points(1, "two parts with the very same layers")
def test_split(student, student_seed):
    for layers, boundary, _, _ in problems(student_seed):
        counts = [len(list(part)) for part in parts_of(student, layers, boundary)]
        assert counts == [boundary, len(layers) - boundary], (
            f"{len(layers)} layers at boundary {boundary} should give {boundary} and {len(layers) - boundary}, but give "
            f"{counts[0]} and {counts[1]}: the first part holds layers 0 to boundary − 1. {READ}"
        )
        together = [layer for part in parts_of(student, layers, boundary) for layer in part]
        assert all(a is b for a, b in zip(together, layers)), (
            f"The parts should hold the very same layers in their order; copies have weights of their own. {READ}"
        )


@pytest.mark.points(2, "the forward: what is sent has no graph, the loss is the whole model's")
def test_forward(student, student_seed):
    for layers, boundary, x, y in problems(student_seed + 1):
        first, last = parts_of(student, layers, boundary)
        sent, _ = student.first_forward(first, x)
        arrived = wire(sent, "what is sent")
        right = nn.Sequential(*layers[:boundary])(x)
        assert torch.equal(arrived, right), f"What is sent should be the output of layers 0 to {boundary - 1}. {READ}"
        loss, _ = student.last_forward(last, arrived, y, LOSS)
        close(loss, whole(layers, x, y)[0], "the loss")


@pytest.mark.points(2, "the gradient that is sent back")
def test_gradient_across(student, student_seed):
    for layers, boundary, x, y in problems(student_seed + 2):
        _, last = parts_of(student, layers, boundary)
        arrived = nn.Sequential(*layers[:boundary])(x).detach().requires_grad_()
        output = nn.Sequential(*layers[boundary:])(arrived)
        (right,) = torch.autograd.grad(LOSS(output, y), arrived)
        _, kept = student.last_forward(last, arrived.detach().clone(), y, LOSS)
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
def test_gradients(student, student_seed):
    for layers, boundary, x, y in problems(student_seed + 3):
        first, last = parts_of(student, layers, boundary)
        right = whole(layers, x, y)[1]
        sent, kept = student.first_forward(first, x)
        _, kept_last = student.last_forward(last, wire(sent, "what is sent"), y, LOSS)
        student.first_backward(kept, wire(student.last_backward(kept_last), "the gradient"))
        compare(layers, right, f"{len(layers)} layers, boundary {boundary}")


@pytest.mark.points(2, "two micro-batches between forward and backward at once")
def test_two_in_flight(student, student_seed):
    for layers, boundary, x, y in problems(student_seed + 4):
        first, last = parts_of(student, layers, boundary)
        batches = [(x, y), (x.flip(0) * 2, y - 1)]
        right = [a + b for a, b in zip(*(whole(layers, *batch)[1] for batch in batches))]
        sent = [student.first_forward(first, a) for a, _ in batches]
        ahead = [student.last_forward(last, wire(s, "what is sent"), b, LOSS) for (s, _), (_, b) in zip(sent, batches)]
        for (_, kept), (_, kept_last) in zip(sent, ahead):
            student.first_backward(kept, wire(student.last_backward(kept_last), "the gradient"))
        compare(layers, right, "two micro-batches in flight, whose gradients add up")
