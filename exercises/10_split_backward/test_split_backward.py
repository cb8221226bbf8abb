"""Exercise 10. Layers of their own sizes against autograd, several micro-batches in flight; at the end a model trains."""

import gc
import random
import weakref

import pytest
import torch
from torch import nn

from pipelab.grading.checks import plain

READ = "Read again: notebook 05 (Zero bubble and after), section “Split the backward”."


def layers(seed, count=5):
    """(Linear in double precision, a function that draws its x and dy): two and three dimensions, with bias and without."""
    draw = random.Random(seed)
    for number in range(count):
        torch.manual_seed(seed % 2**31 + number)
        inputs, outputs = draw.sample(range(2, 8), 2)
        shape = (draw.randint(2, 5),) if number % 2 == 0 else (draw.randint(2, 4), draw.randint(2, 3))
        linear = nn.Linear(inputs, outputs, bias=number % 3 != 2).double()
        yield linear, lambda i=inputs, o=outputs, s=shape: (torch.randn(*s, i).double(), torch.randn(*s, o).double())


def autograd(linear, x, dy):
    """(y, dx, dW, db or None)"""
    x = x.detach().requires_grad_()
    y = linear(x)
    dx, *rest = torch.autograd.grad(y, [x, *linear.parameters()], dy)
    return y.detach(), dx, rest[0], rest[1] if len(rest) > 1 else None


def equal(value, right, what, hint=""):
    value = plain(value, torch.Tensor, what)
    assert value.shape == right.shape, f"{what} should have shape {tuple(right.shape)}, but has {tuple(value.shape)}. {hint} {READ}"
    assert torch.allclose(value, right, rtol=1e-9, atol=1e-12), f"{what} is not autograd's. {hint} {READ}"


def gradient_is(linear, weight, bias, hint):
    for name, parameter, right in (("weight", linear.weight, weight), ("bias", linear.bias, bias)):
        if parameter is not None:
            found = parameter.grad
            assert found is not None, f"{name}.grad is None after W. {READ}"
            equal(found.detach(), right, f"{name}.grad", hint)


@pytest.mark.points(1, "F: y = x · Wᵀ + b")
def test_forward(student, student_seed):
    for linear, draw in layers(student_seed):
        x, dy = draw()
        equal(student.SplitLinear(linear).forward(0, x).detach(), autograd(linear, x, dy)[0], "y", "y = x · Wᵀ + b.")


@pytest.mark.points(2, "I: dX = dY · W, and nothing in .grad yet")
def test_input_gradient(student, student_seed, credit):
    for linear, draw in layers(student_seed + 1):
        x, dy = draw()
        layer = student.SplitLinear(linear)
        layer.forward(0, x)
        equal(layer.input_gradient(0, dy).detach(), autograd(linear, x, dy)[1], "dx", "dX = dY · W.")
        credit(0.5, "dX is right.")
        for name, parameter in linear.named_parameters():
            assert parameter.grad is None, (
                f"{name}.grad is there right after I. The split is that it comes later, with W: I must be short, because the "
                f"rank before waits for it. {READ}"
            )


@pytest.mark.points(2, "W: dW = dYᵀ · X, db = Σ dY")
def test_weight_gradient(student, student_seed):
    for linear, draw in layers(student_seed + 2):
        x, dy = draw()
        layer = student.SplitLinear(linear)
        layer.forward(0, x)
        layer.input_gradient(0, dy)
        layer.weight_gradient(0)
        hint = "dW = dYᵀ · X and db = Σ dY, over all rows: of more than two dimensions all but the last are rows."
        gradient_is(linear, *autograd(linear, x, dy)[2:], hint)


@pytest.mark.points(2, "micro-batches in flight, W's late and in any order, added up")
def test_in_flight(student, student_seed):
    draw_order = random.Random(student_seed)
    for linear, draw in layers(student_seed + 3):
        batches = [draw() for _ in range(4)]
        rights = [autograd(linear, *batch) for batch in batches]
        layer = student.SplitLinear(linear)
        for i, (x, _) in enumerate(batches):
            layer.forward(i, x)
        for i, (_, dy) in enumerate(batches):
            equal(layer.input_gradient(i, dy).detach(), rights[i][1], f"dx of micro-batch {i} of several", "Keep each one apart.")
        order, done = draw_order.sample(range(4), 4), []
        for i in order:
            layer.weight_gradient(i)
            done.append(i)
            weight = sum(rights[j][2] for j in done)
            bias = sum(rights[j][3] for j in done) if linear.bias is not None else None
            hint = f"After the W's of micro-batches {done} it should be the sum of theirs: add to .grad, of just this one."
            gradient_is(linear, weight, bias, hint)


@pytest.mark.points(1, "after W nothing of the micro-batch is held")
def test_memory(student, student_seed):
    for linear, draw in layers(student_seed + 4):
        layer = student.SplitLinear(linear)
        x, dy = draw()
        held = [weakref.ref(x), weakref.ref(dy)]
        layer.forward(0, x)
        layer.input_gradient(0, dy)
        layer.weight_gradient(0)
        del x, dy
        gc.collect()
        assert not any(ref() is not None for ref in held), (
            f"X or dY of micro-batch 0 is still held after its W. W gives back that memory; keep it no longer. {READ}"
        )


@pytest.mark.points(2, "a model of two such layers trains as with autograd")
def test_it_trains(student, student_seed):
    torch.manual_seed(student_seed % 2**31)
    linears = [nn.Linear(5, 6).double(), nn.Linear(6, 2).double()]
    twins = [nn.Linear(5, 6).double(), nn.Linear(6, 2).double()]
    for linear, twin in zip(linears, twins):
        twin.load_state_dict(linear.state_dict())
    x, y = torch.randn(6, 5).double(), torch.randn(6, 2).double()
    first, second = (student.SplitLinear(linear) for linear in linears)
    ours, theirs = (torch.optim.SGD([p for m in each for p in m.parameters()], lr=0.1) for each in (linears, twins))
    for _ in range(5):
        pieces = list(zip(x.chunk(3), y.chunk(3)))
        for i, (a, target) in enumerate(pieces):  # F and I of each micro-batch; the W's of both layers come at the end
            hidden = first.forward(i, a).detach().tanh()
            dy = 2 * (second.forward(i, hidden).detach() - target) / y.numel()
            dh = second.input_gradient(i, dy).detach()
            first.input_gradient(i, dh * (1 - hidden**2))
        for i in range(3):
            second.weight_gradient(i)
            first.weight_gradient(i)
        nn.functional.mse_loss(twins[1](twins[0](x).tanh()), y).backward()
        for optimizer in (ours, theirs):
            optimizer.step()
            optimizer.zero_grad()
    for linear, twin in zip(linears, twins):
        equal(linear.weight.detach(), twin.weight.detach(), "a weight after five steps", "dX, dW or db is wrong somewhere.")
