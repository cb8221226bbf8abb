"""Training as people do it, each thing against the unsplit model: optimizers, clipping, tied
weights, tuples, checkpoints.
"""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab import errors

from .conftest import batch, mlp

STEPS = 4
ADAM = functools.partial(torch.optim.Adam, lr=0.01)


def batches(step):
    x, y = batch(seed=step)
    return x.double(), y


def decay(optimizer):
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)


def train(model, data=(batches, None), loss=functional.cross_entropy, **options):
    options = {
        "schedule": "1f1b",
        "ranks": 4,
        "microbatches": 3,
        "steps": STEPS,
        "optimizer": ADAM,
    } | options
    return pipelab.run(model, *data, loss, **options)


def unsplit(
    model,
    optimizer=ADAM,
    *,
    scheduler=None,
    clip=None,
    data=batches,
    loss=functional.cross_entropy,
    steps=STEPS,
):
    """The same training without a pipeline. Returns the model after it, and the losses."""
    whole, losses = copy.deepcopy(model), []
    trainer = optimizer(whole.parameters())
    plan = scheduler(trainer) if scheduler else None
    for step in range(steps):
        x, y = data(step)
        trainer.zero_grad()
        value = loss(whole(x), y)
        value.backward()
        if clip:
            nn.utils.clip_grad_norm_(whole.parameters(), clip)
        trainer.step()
        if plan:
            plan.step()
        losses.append(value.item())
    return whole, losses


def assert_same(run, whole, losses):
    assert run.losses == pytest.approx(losses, rel=1e-9)
    state = run.state_dict
    assert state.keys() == whole.state_dict().keys()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-8, atol=1e-10)
    assert run.gradient_error <= 1e-12


@pytest.mark.parametrize(
    "optimizer",
    [
        functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        ADAM,
        functools.partial(torch.optim.AdamW, weight_decay=0.1),
    ],
    ids=["sgd", "adam", "adamw"],
)
@pytest.mark.parametrize("scheduler", [None, decay], ids=["constant", "decay"])
def test_optimizers_and_learning_rate_schedules(optimizer, scheduler):
    model = mlp().double()
    assert_same(
        train(model, optimizer=optimizer, scheduler=scheduler),
        *unsplit(model, optimizer, scheduler=scheduler),
    )


@pytest.mark.parametrize("schedule", ["1f1b", "zb-v", "chimera"])
def test_clipping_takes_the_norm_over_all_stages(schedule):
    """The copies of Chimera count once."""
    model, clip = mlp().double(), 0.05
    sgd = functools.partial(torch.optim.SGD, lr=1.0)
    run = train(model, schedule=schedule, ranks=2, microbatches=4, optimizer=sgd, clip=clip)
    whole, losses = unsplit(model, sgd, clip=clip)
    assert_same(run, whole, losses)
    assert run.losses[-1] != unsplit(model, sgd)[1][-1], "clipping changes this training"


def test_uneven_microbatches_accumulate_to_the_mean_of_the_batch():
    model = mlp().double()

    def of_size(step):
        x, y = batch(size=10 + step, seed=step)
        return x.double(), y

    assert_same(train(model, (of_size, None), microbatches=4), *unsplit(model, data=of_size))


def test_bfloat16_computes_in_autocast_and_weights_stay_as_they_are():
    model = mlp()
    run, full = (
        train(model, (lambda step: batch(seed=step), None), dtype=d)
        for d in ("bfloat16", "float32")
    )
    assert run.losses != full.losses and run.losses == pytest.approx(full.losses, rel=0.05)
    assert {value.dtype for value in run.state_dict.values()} == {torch.float32}
    assert run.gradient_error <= 1e-5 and "bfloat16" in run.gradient_note
    assert run.timeline.bytes_sent.max() < full.timeline.bytes_sent.max(), (
        "what goes between ranks is half as large"
    )


@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1"])
def test_bfloat16_gradients_are_those_of_microbatches_one_after_the_other(schedule):
    model, (x, y) = mlp(), batch()
    run = train(model, (x, y), schedule=schedule, dtype="bfloat16", steps=1, optimizer=None)
    whole = copy.deepcopy(model)
    for a, b in zip(x.tensor_split(3), y.tensor_split(3), strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            loss = functional.cross_entropy(whole(a), b) * (len(a) / len(x))
        loss.backward()
    for name, parameter in whole.named_parameters():
        assert torch.equal(run.gradients[name], parameter.grad), name


class Head(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        return functional.linear(x.mean(1), self.weight)


def language_model():
    torch.manual_seed(0)
    embedding = nn.Embedding(11, 16)
    blocks = [nn.Sequential(nn.Linear(16, 16), nn.Tanh()) for _ in range(3)]
    return nn.Sequential(embedding, *blocks, Head(embedding.weight)).double()


def sentences(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randint(11, (12, 5), generator=generator), torch.randint(
        11, (12,), generator=generator
    )


@pytest.mark.parametrize(
    ("schedule", "ranks"),
    [
        ("1f1b", 1),
        ("1f1b", 2),
        ("gpipe", 4),
        ("zb-h1", 3),
        ("zb-v", 2),
        ("chimera", 2),
        ("chimera", 4),
    ],
)
def test_tied_weights_are_trained_as_one(schedule, ranks):
    """On two ranks, on one (zb-v), and in both copies of the model."""
    model = language_model()
    run = train(model, (sentences, None), schedule=schedule, ranks=ranks, microbatches=4, clip=0.3)
    assert_same(run, *unsplit(model, data=sentences, clip=0.3))
    assert torch.equal(run.gradients["0.weight"], run.gradients["4.weight"])
    assert torch.equal(run.state_dict["0.weight"], run.state_dict["4.weight"])


class Start(nn.Module):
    """One tensor in, a tuple out: the hidden values, a skip connection, a mask, and lengths."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x):
        return self.linear(x), x * 2, x[:, :1] > 0, torch.full((len(x), 1), 16)


class Middle(nn.Module):
    """Takes the parts one by one, and carries the skip connection along."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x, skip, mask, lengths):
        return torch.relu(self.linear(x)), skip, mask, lengths


class End(nn.Module):
    """Takes the tuple as one."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 4)

    def forward(self, parts):
        x, skip, mask, lengths = parts
        return self.linear(torch.where(mask, x + skip, x) / lengths)


class Whole(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            x = layer(*x) if isinstance(layer, Middle) else layer(x)
        return x


def skips():
    torch.manual_seed(0)
    return nn.ModuleList([Start(), Middle(), nn.Identity(), Middle(), End()]).double()


@pytest.mark.parametrize(
    ("schedule", "ranks"),
    [("1f1b", 5), ("gpipe", 2), ("interleaved-1f1b", 2), ("zb-h1", 3), ("zb-v", 2), ("chimera", 4)],
)
def test_tuples_skip_connections_masks_and_integers_pass_between_stages(schedule, ranks):
    layers = skips()
    run = train(list(layers), schedule=schedule, ranks=ranks, microbatches=4)
    whole, losses = unsplit(Whole(layers))
    assert run.losses == pytest.approx(losses, rel=1e-9)
    for name, value in whole.layers.state_dict().items():
        torch.testing.assert_close(run.state_dict[name], value, rtol=1e-8, atol=1e-10)
    assert run.gradient_error <= 1e-12
    again = train(
        list(layers), schedule=schedule, ranks=ranks, microbatches=4, recompute="in-backward"
    )
    assert again.losses == run.losses


def test_a_part_that_is_handed_on_twice_or_not_used_is_no_trouble():
    class Fork(nn.Module):
        def forward(self, x):
            return x, x, x.sum(1), (x > 0)

    class Join(nn.Module):
        def forward(self, a, b, *_):
            return a * b

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), Fork(), Join(), nn.Linear(16, 4)).double()
    run = train(model, ranks=4, steps=1, optimizer=None)
    assert run.gradient_error <= 1e-12


def test_one_tensor_in_a_tuple_stays_a_tuple():
    class Wrap(nn.Module):
        def forward(self, x):
            return (x,)

    class Unwrap(nn.Module):
        def forward(self, parts):
            assert type(parts) is tuple
            return parts[0]

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), Wrap(), Unwrap(), nn.Linear(16, 4)).double()
    assert_same(train(model), *unsplit(model))


def test_inputs_and_targets_may_be_tuples():
    class Mix(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.linear = nn.Embedding(5, 16), nn.Linear(16, 16)

        def forward(self, x, kinds):
            return self.linear(x) + self.embedding(kinds)

    def loss(output, target):
        labels, importance = target
        return (functional.cross_entropy(output, labels, reduction="none") * importance).mean()

    torch.manual_seed(0)
    model = nn.Sequential(Mix(), nn.Tanh(), nn.Linear(16, 4)).double()
    (x, y), kinds = batch(size=11), torch.arange(11) % 5
    inputs, targets = (x.double(), kinds), (y, torch.linspace(0.5, 2, 11).double())
    run = train(model, (inputs, targets), loss, ranks=3, steps=1, optimizer=None)
    assert run.gradient_error <= 1e-12
    output = model[2](model[1](model[0](*inputs)))
    assert run.losses == [pytest.approx(loss(output, targets).item(), rel=1e-12)]


def test_shapes_may_change_between_microbatches():
    class Cut(nn.Module):
        """Hands on a shorter sequence for some micro-batches."""

        def forward(self, x):
            return x[:, : int(x[0, 0, 0].abs() * 10) % 4 + 1]

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 16), Cut(), nn.Linear(16, 16), Head(nn.Parameter(torch.randn(4, 16)))
    ).double()
    x, y = torch.randn(12, 5, 16).double(), torch.randint(4, (12,))
    run = train(model, (x, y), microbatches=6, steps=1, optimizer=None)
    sent = run.timeline.bytes_sent[
        (run.timeline.stage == 1) & (run.timeline.kind == pipelab.Kind.F)
    ]
    assert len(set(sent.tolist())) > 1
    whole = copy.deepcopy(model)
    for a, b in zip(x.tensor_split(6), y.tensor_split(6), strict=True):
        (functional.cross_entropy(whole(a), b) / 6).backward()
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(run.gradients[name], parameter.grad)


# Evaluation


@pytest.mark.parametrize(
    "schedule", ["1f1b", "gpipe", "interleaved-1f1b", "zb-v", "chimera", "dualpipe", "pipedream"]
)
def test_evaluation_is_the_unsplit_models(schedule):
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(0.5)) for _ in range(4)
    ]
    model = nn.Sequential(*layers, nn.Linear(16, 4)).double()
    before = copy.deepcopy(model.state_dict())
    done = pipelab.evaluate(
        model,
        batches,
        None,
        functional.cross_entropy,
        schedule=schedule,
        ranks=2,
        microbatches=4,
        steps=2,
        outputs=True,
    )
    whole = copy.deepcopy(model).eval()
    for step in range(2):
        x, y = batches(step)
        torch.testing.assert_close(done.outputs[step], whole(x))
        assert done.losses[step] == pytest.approx(
            functional.cross_entropy(whole(x), y).item(), rel=1e-9
        )
    assert set(done.timelines[0].kind.tolist()) == {pipelab.Kind.F} and len(done.timelines) == 2
    assert done.timelines[1].bytes_held.max() == 0
    assert model.training and all(
        torch.equal(model.state_dict()[name], value) for name, value in before.items()
    )


def test_evaluation_brings_outputs_only_when_asked_and_tuples_too():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x.argmax(1)

    model, (x, y) = nn.Sequential(*mlp(), Pair()), batch()

    def loss(output, target):
        return functional.cross_entropy(output[0], target)

    scores, choice = pipelab.evaluate(
        model, x, y, loss, schedule="gpipe", ranks=2, microbatches=5, outputs=True
    ).outputs[0]
    torch.testing.assert_close(scores, mlp()(x))
    assert torch.equal(choice, scores.argmax(1))
    assert (
        pipelab.evaluate(model, x, y, loss, schedule="gpipe", ranks=2, microbatches=5).outputs
        is None
    )


def test_evaluation_that_fails_is_told_like_a_run():
    with pytest.raises(errors.WorkerError, match="Rank 0 raised RuntimeError: mat1 and mat2"):
        pipelab.evaluate(
            mlp(width=8), *batch(), functional.mse_loss, schedule="1f1b", ranks=2, microbatches=2
        )


def test_outputs_that_are_single_numbers_cannot_be_put_together():
    """torch's own error came, about tensors without dimensions."""

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean()

    with pytest.raises(pipelab.PipelabError, match="here they are single numbers"):
        pipelab.evaluate([nn.Linear(16, 16), Mean()], *batch(), lambda o, t: o, schedule="1f1b",
                         ranks=2, microbatches=2, outputs=True)  # fmt: skip
