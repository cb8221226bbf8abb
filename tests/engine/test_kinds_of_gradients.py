"""Sparse and complex gradients: they train, come home and are clipped as with plain torch."""

import copy
import functools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab.engine.rank.shared_gradients import flatten, summed

SCHEDULES = ["1f1b", "zb-h1", "chimera"]
MOMENTUM = functools.partial(torch.optim.SGD, lr=0.5, momentum=0.9)
ADAM = functools.partial(torch.optim.Adam, lr=0.05)


def squared(output, target):
    return (output - target).abs().square().mean()


def plainly(model, data, *, optimizer, steps=3, clip=None):
    """A copy that plain torch has trained on full batches, and its gradients in the last step."""
    model = copy.deepcopy(model)
    stepping = optimizer(list(model.parameters()))
    for _ in range(steps):
        stepping.zero_grad()
        squared(model(data[0]), data[1]).backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        if clip:
            norms = [p.grad.to_dense().norm().item() for p in model.parameters()]
            for parameter in model.parameters():
                parameter.grad.mul_(min(1.0, clip / (math.hypot(*norms) + 1e-6)))
        stepping.step()
    return model.state_dict(), gradients


def assert_trains_as_torch(model, data, schedule, *, optimizer, tolerance=1e-5, **options):
    given = {"ranks": 2, "microbatches": 4, "steps": 3} | options
    run = pipelab.run(model, *data, squared, schedule=schedule, optimizer=optimizer, **given)
    state, gradients = plainly(model, data, optimizer=optimizer, clip=options.get("clip"))
    for name, expected in state.items():
        assert torch.allclose(run.state_dict[name], expected, tolerance, tolerance), name
    for name, expected in gradients.items():
        assert run.gradients[name].layout == expected.layout, name
        mine, expected = run.gradients[name].to_dense(), expected.to_dense()
        assert torch.allclose(mine, expected, tolerance, tolerance), name
    assert run.gradient_error <= tolerance
    return run


def words(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 9, (12, 3), generator=generator)
    return x, torch.randn(12, 3, 8, generator=generator)


def embedded(*rest):
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(20, 8, sparse=True), *rest, nn.Linear(8, 8), nn.Linear(8, 8))


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("schedule", [*SCHEDULES, "zb-v"])
def test_sparse_gradients_train_and_come_home(schedule, clip):
    """The user saw "unsupported memory format option Contiguous" when the work was done."""
    model = embedded(nn.Linear(8, 8))
    assert_trains_as_torch(model, words(), schedule, optimizer=MOMENTUM, clip=clip)


@pytest.mark.parametrize("options", [{"recompute": "early"}, {"workers": "threads"}])
def test_sparse_gradients_however_the_run_is_made(options):
    assert_trains_as_torch(embedded(), words(), "1f1b", optimizer=MOMENTUM, **options)


def test_sparse_gradients_in_half_precision_and_between_steps_of_the_schedule():
    how = {"ranks": 2, "microbatches": 4, "optimizer": MOMENTUM}
    half = pipelab.run(embedded(), *words(), squared, schedule="1f1b", dtype="bfloat16", **how)
    assert half.gradient_error <= 1e-5
    run = pipelab.run(embedded(), *words(), squared, schedule="pipedream", **how)
    assert run.gradients["0.weight"].is_sparse


class Decoder(nn.Module):
    """Scores of words by the embedding's own weight, and back to a mean of them."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        return functional.linear(x, self.weight).softmax(-1) @ self.weight


@pytest.mark.parametrize("schedule", [*SCHEDULES, "zb-v"])
def test_a_sparse_gradient_and_a_dense_one_of_a_tied_weight_are_summed(schedule):
    """add(sparse, dense) is not supported, torch said."""
    model = embedded()
    model.append(Decoder(model[0].weight))
    assert_trains_as_torch(model, words(), schedule, optimizer=MOMENTUM, clip=0.1)


class Again(nn.Module):
    """Embeds the words anew, from where they are the second part of a tuple."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, pair):
        x, words = pair
        return x + self.table(words)


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 8, sparse=True)

    def forward(self, words):
        return self.table(words), words


def tables(*, tied):
    torch.manual_seed(0)
    first = Both()
    return nn.Sequential(first, Again(first.table if tied else nn.Embedding(20, 8, sparse=True)))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("schedule", ["1f1b", "chimera"])
def test_sparse_gradients_stay_sparse_where_ranks_sum_them(schedule, tied):
    """A dense sum would move rows that nobody touched, and SparseAdam takes no dense one."""
    optimizer = functools.partial(torch.optim.SparseAdam, lr=0.05)
    assert_trains_as_torch(tables(tied=tied), words(), schedule, optimizer=optimizer)


def test_sparse_adam_goes_on_after_resume(tmp_path):
    def train(steps, **options):
        how = {"ranks": 2, "microbatches": 4, "optimizer": torch.optim.SparseAdam} | options
        return pipelab.run(
            tables(tied=True), *words(), squared, schedule="1f1b", steps=steps, **how
        )

    whole = train(4)
    train(2).save(tmp_path / "half.pt")
    rest = train(2, resume=tmp_path / "half.pt")
    assert torch.equal(rest.state_dict["0.table.weight"], whole.state_dict["0.table.weight"])


def test_a_touched_row_stays_touched_where_its_gradient_is_0():
    weight = nn.Parameter(torch.zeros(4, 2))
    holders = []
    for row, value in ((1, 0.0), (3, 2.0)):
        values = torch.full((1, 2), value)
        weight.grad = torch.sparse_coo_tensor([[row]], values, (4, 2), check_invariants=False)
        holders.append(flatten([weight]))
    (total,) = summed(holders, [weight])
    assert total.indices().tolist() == [[1, 3]] and total.values().tolist() == [[0, 0], [2, 2]]


class Adjacency(nn.Module):
    """A layer of a graph network: a sparse buffer that is no weight."""

    def __init__(self, layout):
        super().__init__()
        links = torch.eye(3).roll(1, 0) + torch.eye(3)
        self.register_buffer("links", getattr(links, layout)())
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return torch.stack([torch.sparse.mm(self.links, each) for each in self.inner(x)])


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1"])
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
def test_sparse_buffers(schedule, layout):
    """torch's "Cannot access storage of SparseTensorImpl" when bytes were counted."""
    torch.manual_seed(0)
    model = nn.Sequential(Adjacency(layout), Adjacency(layout))
    data = [torch.randn(12, 3, 8) for _ in range(2)]
    run = pipelab.run(model, *data, squared, schedule=schedule, ranks=2, microbatches=4)
    assert run.gradient_error <= 1e-5
    assert run.state_dict["0.links"].layout == model[0].links.layout


class Graph(nn.Module):
    """Learns the weights of the links that there are."""

    def __init__(self):
        super().__init__()
        self.links = nn.Parameter(torch.eye(8).roll(1, 0).to_sparse())

    def forward(self, x):
        return torch.sparse.mm(self.links, x.t()).t()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_sparse_parameters(schedule):
    torch.manual_seed(0)
    model = nn.Sequential(Graph(), nn.Linear(8, 8), Graph())
    data = [torch.randn(12, 8) for _ in range(2)]
    run = pipelab.run(model, *data, squared, schedule=schedule, ranks=2, microbatches=4)
    assert run.gradient_error <= 1e-5
    assert run.gradients["0.links"].is_sparse and run.state_dict["0.links"].is_sparse


def waves(dtype=torch.complex64):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(8, 8, dtype=dtype) for _ in range(4)))
    return model, [torch.randn(12, 8, dtype=dtype) for _ in range(2)]


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("schedule", [*SCHEDULES, "zb-v"])
def test_complex_weights_train_as_with_torch(schedule, clip):
    """A split backward forgot to conjugate: wrong gradients. Clipping dropped imaginary parts."""
    model, data = waves()
    assert_trains_as_torch(model, data, schedule, optimizer=ADAM, clip=clip)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_complex_weights_that_are_tied_in_double_precision(schedule):
    model, data = waves(torch.complex128)
    model[3].weight = model[0].weight
    assert_trains_as_torch(model, data, schedule, optimizer=MOMENTUM, clip=0.1, tolerance=1e-12)


class Conjugated(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, dtype=torch.complex64))

    def forward(self, x):
        return (x * self.weight).conj()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_lazily_conjugated_values_pass_between_ranks(schedule):
    """A gradient may come home conjugated too, as a bit beside its memory."""
    torch.manual_seed(0)
    model = nn.Sequential(*(Conjugated() for _ in range(4)))
    assert_trains_as_torch(model, waves()[1], schedule, optimizer=MOMENTUM)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_clipping_hides_no_gradient_that_is_not_finite(bad):
    """A nan was clipped to nothing wrong on all other weights; torch makes the trouble seen."""

    def spoil(gradient):
        return torch.full_like(gradient, bad)

    def make():
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(2)))
        model[1].bias.register_hook(spoil)
        return model

    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(12, 8, generator=generator) for _ in range(2))
    run = pipelab.run(make(), x, y, squared, schedule="1f1b", ranks=2, microbatches=4, clip=0.1,
                      optimizer=MOMENTUM)  # fmt: skip
    model = make()
    squared(model(x), y).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    MOMENTUM(model.parameters()).step()
    for name, expected in model.state_dict().items():
        assert torch.allclose(run.state_dict[name], expected, equal_nan=True), name
