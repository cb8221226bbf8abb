"""Exercise 10. Layers of their own sizes against autograd, several micro-batches in flight; at the end a model trains."""

import random

import pytest
import torch
from torch import nn

from pipelab.grading.checks import plain

READ = "Read again: notebook 05 (Zero bubble and after), section “Split the backward”."


WITHOUT = {"torch.autograd": "the exercise is to compute the two parts yourself: autograd is not used here"}


def layers(seed, count=3):
    """(Linear in double precision, a function that draws its x and dy): two and three dimensions, with bias and without."""
    draw = random.Random(seed)
    for number in range(count):
        torch.manual_seed(seed % 2**31 + number)
        inputs, outputs = draw.sample(range(2, 8), 2)
        shape = (draw.randint(2, 5),) if number % 2 == 0 else (draw.randint(2, 4), draw.randint(2, 3))
        linear = nn.Linear(inputs, outputs, bias=number % 3 != 2).double()
        yield linear, lambda i=inputs, o=outputs, s=shape: (torch.randn(*s, i).double(), torch.randn(*s, o).double())


def orders(seed):
    """Draw orders of four W's, none of them first in, first out."""
    draw = random.Random(seed)
    while True:
        order = draw.sample(range(4), 4)
        if order != sorted(order):
            yield order


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


def gradient_is(there, weight, bias, hint):
    rights = {"weight": weight, "bias": bias}
    for name, found in there.gradients().items():
        assert found is not None, f"{name}.grad is None after W. {READ}"
        equal(found, rights[name], f"{name}.grad", hint)


def tensor(value, what):
    """What a method returned, without its graph."""
    return plain(value, torch.Tensor, what).detach()


@pytest.mark.points(1, "F: y = x · Wᵀ + b")
def test_forward(student, guest, student_seed, case):
    for linear, draw in case.each(layers(10), layers(student_seed)):
        with case:
            x, dy = draw()
            y = student.SplitLinear.keep(guest.put(linear)).call("forward", 0, x)
            equal(tensor(y, "y"), autograd(linear, x, dy)[0], "y", "y = x · Wᵀ + b.")


@pytest.mark.points(2, "I: dX = dY · W, and nothing in .grad yet")
def test_input_gradient(student, guest, student_seed, case, credit):
    for linear, draw in case.each(layers(11), layers(student_seed + 1)):
        with case:
            x, dy = draw()
            there = guest.put(linear)
            layer = student.SplitLinear.keep(there)
            layer.call("forward", 0, x)
            equal(tensor(layer.call("input_gradient", 0, dy), "dx"), autograd(linear, x, dy)[1], "dx", "dX = dY · W.")
            credit(0.5, "dX is right.")
            for name, found in there.gradients().items():
                assert found is None, (
                    f"{name}.grad is there right after I. The split is that it comes later, with W: I must be short, because the "
                    f"rank before waits for it. {READ}"
                )


@pytest.mark.points(2, "W: dW = dYᵀ · X, db = Σ dY")
def test_weight_gradient(student, guest, student_seed, case):
    for linear, draw in case.each(layers(12), layers(student_seed + 2)):
        with case:
            x, dy = draw()
            there = guest.put(linear)
            layer = student.SplitLinear.keep(there)
            layer.call("forward", 0, x)
            layer.call("input_gradient", 0, dy)
            layer.call("weight_gradient", 0)
            hint = "dW = dYᵀ · X and db = Σ dY, over all rows: of more than two dimensions all but the last are rows."
            gradient_is(there, *autograd(linear, x, dy)[2:], hint)


@pytest.mark.points(2, "micro-batches in flight, W's late and in any order, added up")
def test_in_flight(student, guest, student_seed, case):
    own = zip(layers(student_seed + 3), orders(student_seed))
    for (linear, draw), order in case.each(zip(layers(13), orders(13)), own):
        with case:
            batches = [draw() for _ in range(4)]
            rights = [autograd(linear, *batch) for batch in batches]
            there = guest.put(linear)
            layer = student.SplitLinear.keep(there)
            for i, (x, _) in enumerate(batches):
                layer.call("forward", i, x)
            for i, (_, dy) in enumerate(batches):
                what = f"dx of micro-batch {i} of several"
                equal(tensor(layer.call("input_gradient", i, dy), what), rights[i][1], what, "Keep each one apart.")
            done = []
            for i in order:
                layer.call("weight_gradient", i)
                done.append(i)
                weight = sum(rights[j][2] for j in done)
                bias = sum(rights[j][3] for j in done) if linear.bias is not None else None
                hint = f"After the W's of micro-batches {done} it should be the sum of theirs: add to .grad, of just this one."
                gradient_is(there, weight, bias, hint)


@pytest.mark.points(1, "after W nothing of the micro-batch is held")
def test_memory(student, guest, student_seed, case):
    for linear, draw in case.each(layers(14), layers(student_seed + 4)):
        with case:
            layer = student.SplitLinear.keep(guest.put(linear))
            x, dy = (guest.put(value) for value in draw())
            layer.call("forward", 0, x)
            layer.call("input_gradient", 0, dy)
            layer.call("weight_gradient", 0)
            x.forget()
            dy.forget()
            assert not x.is_alive() and not dy.is_alive(), (
                f"X or dY of micro-batch 0 is still held after its W. W gives back that memory; keep it no longer. {READ}"
            )


@pytest.mark.points(2, "a model of two such layers trains as with autograd")
def test_it_trains(student, guest, student_seed):
    torch.manual_seed(student_seed % 2**31)
    linears = [nn.Linear(5, 6).double(), nn.Linear(6, 2).double()]
    x, y = torch.randn(6, 5).double(), torch.randn(6, 2).double()
    there = [guest.put(linear) for linear in linears]
    first, second = (student.SplitLinear.keep(linear) for linear in there)
    weights = guest.do(list, [p for linear in there for p in guest.do(nn.Module.parameters, linear).parts()])
    ours = guest.do(torch.optim.SGD, weights, 0.1)
    theirs = torch.optim.SGD([p for linear in linears for p in linear.parameters()], lr=0.1)
    for _ in range(5):
        pieces = list(zip(x.chunk(3), y.chunk(3)))
        for i, (a, target) in enumerate(pieces):  # F and I of each micro-batch; the W's of both layers come at the end
            hidden = tensor(first.call("forward", i, a), "y").tanh()
            dy = 2 * (tensor(second.call("forward", i, hidden), "y") - target) / y.numel()
            dh = tensor(second.call("input_gradient", i, dy), "dx")
            first.call("input_gradient", i, dh * (1 - hidden**2))
        for i in range(3):
            second.call("weight_gradient", i)
            first.call("weight_gradient", i)
        nn.functional.mse_loss(linears[1](linears[0](x).tanh()), y).backward()
        ours.call("step")
        ours.call("zero_grad")
        theirs.step()
        theirs.zero_grad()
    for linear, twin in zip(there, linears):
        weight = guest.do(getattr, linear, "weight").value()
        equal(tensor(weight, "a weight"), twin.weight.detach(), "a weight after five steps", "dX, dW or db is wrong somewhere.")
