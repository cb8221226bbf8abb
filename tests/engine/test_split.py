"""I and W together are the full backward, to the bit; in between, what W needs is kept and
counted.
"""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipelab.engine.job.values import Alone
from pipelab.engine.stage.kept import Task
from pipelab.engine.stage.randomness import Seeds
from pipelab.engine.stage.split import DeferredGradients
from pipelab.engine.stage.stage import Stage
from pipelab.model import workload

TASK = Task(Seeds(0, 0), None, 1.0)


class Scale(nn.Module):
    """Owns a raw parameter, which the stores leave to I."""

    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(torch.full((16,), 0.5))

    def forward(self, x):
        return x * self.by


class Twice(nn.Module):
    """Uses one layer twice, and the weight of another beside the layer itself."""

    def __init__(self):
        super().__init__()
        self.layer, self.other = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        x = self.layer(torch.tanh(self.layer(x)))
        return self.other(x) + functional.linear(x, self.other.weight)


class Keyword(nn.Module):
    """Calls torch's layers with keywords and with several inputs."""

    def __init__(self):
        super().__init__()
        self.linear, self.pair = nn.Linear(16, 16), nn.Bilinear(16, 16, 16)

    def forward(self, x):
        return self.pair(self.linear(input=x), x)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.GRU(16, 16, batch_first=True)

    def forward(self, x):
        return self.cells(x)[0]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        return self.attend(x, x, x, need_weights=False)[0]


class Transposed(nn.Module):
    """Hands on a tensor that is not contiguous."""

    def forward(self, x):
        return x.transpose(0, 1)


def frozen(layer):
    layer.weight.requires_grad_(False)
    return layer


def tied(width=16):
    first, second = nn.Linear(width, width), nn.Linear(width, width)
    second.weight = first.weight
    return [first, nn.Tanh(), second]


FLAT, DEEP, IMAGE, TEXT = (6, 16), (6, 5, 16), (6, 3, 8, 8), (6, 5)
CASES = {
    "linear": (
        FLAT,
        [nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16, bias=False), nn.Linear(16, 16)],
    ),
    "ends in a view": (DEEP, [nn.Linear(16, 16), nn.Linear(16, 16)]),
    "in place": (
        DEEP,
        [
            nn.Linear(16, 16),
            nn.ReLU(inplace=True),
            nn.Linear(16, 16),
            nn.LayerNorm(16),
            nn.ReLU(True),
        ],
    ),
    "not contiguous": (DEEP, [Transposed(), nn.Linear(16, 16), Transposed(), nn.Linear(16, 16)]),
    "norms": (DEEP, [nn.LayerNorm(16), nn.Linear(16, 16), nn.RMSNorm(16), nn.GroupNorm(1, 5)]),
    "images": (
        IMAGE,
        [
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.PReLU(8),
            nn.ConvTranspose2d(8, 4, 2),
            nn.Flatten(),
            nn.LazyLinear(7),
        ],
    ),
    "embedding": (TEXT, [nn.Embedding(9, 16), nn.Linear(16, 16)]),
    "sparse embedding": (TEXT, [nn.Embedding(9, 16, sparse=True), nn.Linear(16, 16)]),
    "raw parameters": (FLAT, [nn.Linear(16, 16), Scale(), nn.Linear(16, 16), Scale()]),
    "used twice": (FLAT, [Twice(), nn.Linear(16, 16)]),
    "tied": (FLAT, tied()),
    "keywords": (FLAT, [Keyword()]),
    "recurrent": (DEEP, [nn.Linear(16, 16), Recurrent(), nn.Linear(16, 16)]),
    "attention": (DEEP, [nn.Linear(16, 16), Attention(), nn.LayerNorm(16)]),
    "transformer": (
        DEEP,
        [nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), nn.Linear(16, 16)],
    ),
    "frozen": (FLAT, [nn.Linear(16, 16), frozen(nn.Linear(16, 16)), nn.Linear(16, 16)]),
    "weight norm": (
        FLAT,
        [nn.utils.parametrizations.weight_norm(nn.Linear(16, 16)), nn.Linear(16, 16)],
    ),
    "dropout": (FLAT, [nn.Linear(16, 16), nn.Dropout(0.5), nn.Linear(16, 16)]),
    "no parameters": (FLAT, [nn.ReLU(), nn.Identity()]),
}


def data(shape, microbatches):
    generator = torch.Generator().manual_seed(1)
    if shape is TEXT:
        return [torch.randint(9, shape, generator=generator) for _ in range(microbatches)]
    return [torch.randn(shape, generator=generator) for _ in range(microbatches)]


def train(layers, inputs, index, order, half=False):
    """Runs F of all micro-batches, then ``order``: ("B" | "I" | "W", micro-batch).

    Returns gradients of inputs and weights.
    """
    layers = copy.deepcopy(layers)
    weights = DeferredGradients() if any(kind == "W" for kind, _ in order) else None
    if weights is not None:
        weights.defer(layers)
    stage = Stage(index, list(enumerate(layers)), None, weights, half=half)
    outputs = [stage.forward(i, Alone((x.clone(),)), TASK)[0][0] for i, x in enumerate(inputs)]
    generator, dx = torch.Generator().manual_seed(2), {}
    upstream = [torch.randn(y.shape, generator=generator).to(y.dtype) for y in outputs]
    for kind, i in order:
        if kind == "W":
            stage.weight_gradient(i)
        else:
            gradients, _, _ = stage.backward(i, Alone((upstream[i],)), split=kind == "I")
            dx[i] = gradients and gradients[0]
    return (
        outputs,
        dx,
        {name: p.grad for name, p in layers.named_parameters(remove_duplicate=False)},
    )


IN_I = {
    "used twice": "other.",
    "raw parameters": "by",
    "sparse embedding": "0.",
    "attention": "attend.",
    "recurrent": "cells.",
    "weight norm": "0.",
    "keywords": "0.",
    "transformer": "self_attn",
}
"""What of a case's names has its gradient in I."""


@pytest.mark.parametrize("first", [True, False], ids=["first stage", "later stage"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_the_two_parts_are_the_whole_to_the_bit(case, first):
    """Weight gradients are added in the order of W, here another one than that of I."""
    shape, layers = CASES[case]
    layers, index = nn.ModuleList(layers), int(not first and shape is not TEXT)
    inputs = data(shape, 3)
    torch.manual_seed(0)
    with torch.no_grad():
        nn.Sequential(*layers)(inputs[0])  # gives lazy layers their shapes
    split = [("I", 0), ("I", 1), ("W", 1), ("I", 2), ("W", 2), ("W", 0)]
    late, dx, gradients = train(layers, inputs, index, split)
    whole, dx_full, in_order_of_w = train(layers, inputs, index, [("B", 1), ("B", 2), ("B", 0)])
    in_order_of_i = train(layers, inputs, index, [("B", 0), ("B", 1), ("B", 2)])[2]
    for i in range(3):
        assert torch.equal(late[i], whole[i])
        assert dx[i] is None if not index else torch.equal(dx[i], dx_full[i])
    assert gradients.keys() == in_order_of_w.keys()
    for name, gradient in gradients.items():
        expected = in_order_of_i[name] if IN_I.get(case, "-") in name else in_order_of_w[name]
        if gradient is None or expected is None:
            assert gradient is expected
        else:
            assert torch.equal(gradient.to_dense(), expected.to_dense()), name


def test_deferred_gradients_come_with_w_and_the_rest_with_i():
    layers = nn.ModuleList([nn.Linear(16, 16), Scale()])
    weights = DeferredGradients()
    weights.defer(layers)
    stage = Stage(0, list(enumerate(layers)), None, weights)
    (y,), _ = stage.forward(0, Alone((torch.randn(6, 16),)), TASK)
    stage.backward(0, Alone((torch.ones_like(y),)), split=True)
    assert layers[0].weight.grad is None and layers[1].by.grad is not None
    stage.weight_gradient(0)
    assert layers[0].weight.grad is not None


def test_under_autocast_the_parts_are_the_whole_too():
    layers, inputs = (
        nn.ModuleList([nn.Linear(16, 16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 16)]),
        data(FLAT, 2),
    )
    (y, *_), _, late = train(layers, inputs, 1, [("I", 0), ("W", 0), ("I", 1), ("W", 1)], half=True)
    _, _, whole = train(layers, inputs, 1, [("B", 0), ("B", 1)], half=True)
    assert y.dtype == torch.bfloat16
    assert all(torch.equal(late[name], whole[name]) for name in whole)


def test_what_is_kept_between_the_parts_is_counted():
    """F keeps x and relu's output (which the second layer keeps too); I lets go of nothing of that
    and keeps dY of both.
    """
    layers = nn.ModuleList([nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)])
    weights = DeferredGradients()
    weights.defer(layers)
    stage = Stage(1, list(enumerate(layers)), None, weights)
    one = 6 * 16 * 4
    (y,), kept = stage.forward(0, Alone((torch.randn(6, 16),)), TASK)
    assert kept == 2 * one
    _, more, freed = stage.backward(0, Alone((torch.ones_like(y),)), split=True)
    assert (more, freed) == (2 * one, 0)
    assert stage.weight_gradient(0) == 4 * one


def test_of_a_transformer_i_gives_back_what_no_weight_needs_and_w_the_rest():
    """Attention's and gelu's own; what is kept of the gradients for W is as much again (the papers'
    M_W holds both).
    """
    job = workload("gpt", layers=4, width=32, batch=4)
    layers = nn.ModuleList(list(job.model)[1:3])
    weights = DeferredGradients()
    weights.defer(layers)
    stage = Stage(1, list(enumerate(layers)), None, weights)
    x = torch.randn(4, 64, 32)
    for _ in range(2):  # counted, then known
        (y,), kept = stage.forward(0, Alone((x.clone(),)), TASK)
        _, more, freed = stage.backward(0, Alone((torch.ones_like(y),)), split=True)
        rest = stage.weight_gradient(0)
        assert kept + more == freed + rest
        assert 0.3 * kept < freed < 0.7 * kept and rest > 0
