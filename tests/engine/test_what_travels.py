"""What changes how a model computes or trains goes to its rank, or the run is refused by name.

Judged by plain torch on the caller's own model. The badge said 1e-7 in most of these cases while
the gradients were wrong: its reference had lost the same thing on the same way.
"""

import copy
import random
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn import functional
from torch.nn.utils import parametrizations

import pipelab
from pipelab.errors import UsageError


def SGD(ps):
    return torch.optim.SGD(ps, lr=0.1)


def squares(size=12, width=8):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(size, width, generator=generator) for _ in range(2)]


def linears(count, width=8):
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(count)))


def train(model, schedule="1f1b", data=None, loss=functional.mse_loss, **options):
    options = {"ranks": 2, "microbatches": 4} | options
    return pipelab.run(model, *(data or squares()), loss, schedule=schedule, **options)


def assert_true(run, model, data=None, tolerance=1e-5):
    """The gradients are those of plain torch on the model itself, and the badge says so."""
    x, y = data or squares()
    for parameter in model.parameters():
        parameter.grad = None
    functional.mse_loss(model(x), y).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            assert name not in run.gradients, name
        else:
            difference = (run.gradients[name] - parameter.grad).norm()
            assert difference <= tolerance * parameter.grad.norm().clamp(min=1e-3), name
        parameter.grad = None
    assert run.gradient_error <= tolerance and run.gradient_note is None


SCHEDULES = ["1f1b", "zb-h1", "chimera"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_hook_on_a_parameter_acts(schedule):
    """A mask on a gradient was lost; frozen rows were trained."""
    model, mask = linears(4), torch.zeros(8, 8)
    mask[:4] = 1
    model[1].weight.register_hook(lambda g: g * mask)
    run = train(model, schedule)
    assert run.gradients["1.weight"][4:].abs().max() == 0
    assert_true(run, model)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_hooks_on_modules_act(schedule):
    model = linears(4)
    model[0].register_forward_hook(lambda m, a, y: 2 * y)
    model[1].register_forward_pre_hook(lambda m, a: (a[0] + 1,))
    model[2].register_full_backward_hook(lambda m, gi, go: tuple(g and 3 * g for g in gi)
                                         if gi[0] is None else (3 * gi[0],))  # fmt: skip
    assert_true(train(model, schedule), model)


def patched():
    layer = nn.Linear(8, 8)
    layer.forward = lambda x: functional.linear(x, layer.weight, layer.bias) * 2
    return layer


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_forward_that_was_replaced_is_the_copys_own(schedule):
    """A deep copy's forward pointed at the old module, whose weights nobody trained."""
    torch.manual_seed(0)
    model = nn.Sequential(patched(), *linears(3))
    assert_true(train(model, schedule), model)


def test_a_forward_that_was_replaced_goes_on_after_resume(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(patched(), *linears(3))
    whole = train(model, steps=4, optimizer=SGD)
    first = train(model, steps=2, optimizer=SGD)
    first.save(tmp_path / "half.pt")
    second = train(model, steps=2, optimizer=SGD, resume=tmp_path / "half.pt")
    assert first.losses + second.losses == pytest.approx(whole.losses, rel=1e-6)
    assert second.gradient_error <= 1e-5


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("parametrize", [parametrizations.weight_norm, parametrizations.orthogonal])
def test_parametrized_layers_travel(schedule, parametrize):
    """torch refuses to pickle them: the user saw its bare RuntimeError."""
    model = linears(4)
    parametrize(model[1])
    parametrize(model[2])
    assert_true(train(model, schedule), model)


def test_spectral_norm_counts_its_calls_and_the_badge_says_what_it_compares_with():
    """One pass over the full batch iterates once, four micro-batches four times."""
    model = linears(4)
    parametrizations.spectral_norm(model[1])
    run = train(model)
    assert run.gradient_error <= 1e-5
    assert "micro-batches one after the other" in run.gradient_note


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = checkpoint_wrapper(nn.Sequential(nn.Linear(8, 8), nn.Tanh()))

    def forward(self, x):
        return self.inner(x)


def test_a_wrapper_that_renames_brings_its_training_home():
    """run.state_dict held the weights from before the training, without a word."""
    torch.manual_seed(0)
    model = nn.Sequential(Block(), Block(), nn.Linear(8, 8))
    run = train(model, ranks=3, steps=3, optimizer=SGD)
    before = model.state_dict()
    assert run.state_dict.keys() == before.keys()
    assert all(not torch.equal(run.state_dict[name], before[name]) for name in before)
    copy.deepcopy(model).load_state_dict(run.state_dict)


class Counting(nn.Linear):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


def test_extra_state_comes_home():
    run = train(nn.Sequential(Counting(8, 8), nn.Linear(8, 8)), steps=2, optimizer=SGD)
    assert run.state_dict["0._extra_state"] == {"calls": 8}


class Head(nn.Module):
    def __init__(self, other):
        super().__init__()
        self.source = [other]

    def forward(self, x):
        return functional.linear(x, self.source[0].weight)


def with_a_hook_on(model, where):
    where(model)
    return model


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m.append(Head(m[0])), r"Layer 4 \(4: Head\) reaches the parameter 0.weight"),
        (lambda m: m.register_forward_hook(lambda *a: None), "itself has a forward hook"),
        (lambda m: m.register_full_backward_hook(lambda *a: None), "itself has a backward hook"),
        (lambda m: m.register_parameter("scale", nn.Parameter(torch.ones(1))),
         "itself has a parameter of its own"),
        (lambda m: setattr(m, "forward", lambda x: x), "itself has a forward that replaces"),
        (lambda m: m.append(torch.jit.script(nn.Linear(8, 8))), "layer 4 is TorchScript"),
        (lambda m: m.append(nn.Linear(8, 8, device="meta")), "weight of layer 4 is on the meta"),
    ],
    ids=["unregistered", "hook", "backward hook", "parameter", "forward", "script", "meta"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_what_would_be_lost_is_refused_by_name(change, text):
    model = linears(4)
    change(model)
    with pytest.raises(UsageError, match=text):
        train(model)


def test_a_reference_on_the_same_rank_is_the_same_object():
    model = linears(3)
    model.append(Head(model[0]))
    assert_true(train(model, ranks=1, microbatches=2), model)


def test_a_loss_that_reaches_the_model_is_refused():
    """Its penalty worked on copies of the other ranks' weights."""
    model = linears(4)

    def penalty(output, target):
        weights = sum(p.norm() for p in model.parameters())
        return functional.mse_loss(output, target) + weights

    with pytest.raises(UsageError, match="loss_fn reaches the parameter 0.weight of the model"):
        train(model, loss=penalty)


def test_an_optimizer_of_the_whole_model_is_refused():
    """It held copies that nobody trains; the losses simply fell more slowly."""
    model = linears(4)
    with pytest.raises(UsageError, match="optimizer reaches the parameter 0.weight of the model"):
        train(model, optimizer=lambda _: torch.optim.SGD(model.parameters(), lr=0.1))


def test_the_default_dtype_travels():
    class Makes(nn.Module):
        def forward(self, x):
            return x * torch.ones(8)  # of the default dtype

    model = nn.Sequential(nn.Linear(8, 8), Makes(), nn.Linear(8, 8)).double()
    x, y = (t.double() for t in squares())
    torch.set_default_dtype(torch.float64)
    try:
        run = train(model, data=(x, y))
        assert run.gradients["0.weight"].dtype == torch.float64
        assert run.gradient_error <= 1e-12
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_switch_for_deterministic_algorithms_travels():
    class Tells(nn.Module):
        def forward(self, x):
            return x * (1 + torch.are_deterministic_algorithms_enabled())

    model = nn.Sequential(nn.Linear(8, 8), Tells(), nn.Linear(8, 8))
    torch.use_deterministic_algorithms(True)
    try:
        assert_true(train(model), model)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("change", "undo", "read"),
    [
        (
            lambda: torch.backends.cuda.enable_flash_sdp(False),
            lambda: torch.backends.cuda.enable_flash_sdp(True),
            lambda: torch.backends.cuda.flash_sdp_enabled(),
        ),
        (
            lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
            lambda: setattr(torch.backends.cudnn, "allow_tf32", True),
            lambda: torch.backends.cudnn.allow_tf32,
        ),
        (
            lambda: torch.set_float32_matmul_precision("high"),
            lambda: torch.set_float32_matmul_precision("highest"),
            lambda: torch.get_float32_matmul_precision() == "highest",
        ),
        (
            lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
            lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "none"),
            lambda: torch.backends.cuda.matmul.fp32_precision != "tf32",
        ),
    ],
    ids=["attention", "cuDNN's TF32", "precision of products", "of CUDA's products"],
)
def test_settings_of_speed_and_precision_travel(change, undo, read):
    """People compare a run with their own loop. With the last one set, every run was refused."""

    class Tells(nn.Module):
        def forward(self, x):
            return x * (1 + read())

    model = nn.Sequential(nn.Linear(8, 8), Tells(), nn.Linear(8, 8))
    change()
    try:
        assert not read()
        assert_true(train(model), model)
    finally:
        undo()


def test_a_layer_that_mentions_a_module_of_an_own_type_travels():
    """``torch.backends`` could not be pickled: "cannot pickle 'GenericModule' object"."""
    backends = torch.backends

    class Asks(nn.Module):
        def forward(self, x):
            return x * (1 + backends.mkldnn.is_available())

    assert_true(train(model := nn.Sequential(nn.Linear(8, 8), Asks(), nn.Linear(8, 8))), model)


def test_what_cannot_travel_is_named():
    lock = threading.Lock()

    class Careful(nn.Module):
        def forward(self, x):
            with lock:
                return x

    with pytest.raises(UsageError, match=r"'_thread.lock' object \(in the function .*Careful.forw"):
        train(nn.Sequential(nn.Linear(8, 8), Careful(), nn.Linear(8, 8)))
    layer = nn.Linear(8, 8)
    layer.guard = lock
    with pytest.raises(UsageError, match=r"'_thread.lock' object \(in a layer of type Linear\)"):
        train(nn.Sequential(nn.Linear(8, 8), layer, nn.ReLU()))


def test_autocast_around_a_run_is_refused():
    with pytest.raises(UsageError, match="autocast is on for 'cpu'"), torch.autocast("cpu"):
        train(linears(4))


def test_the_callers_model_is_as_it_was_after_the_badge():
    model = linears(4)
    model[0].weight.grad = torch.ones(8, 8)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    numbers = random.getstate(), np.random.get_state()[1].copy()
    run = train(model, steps=2, optimizer=SGD)
    assert run.gradient_error <= 1e-5
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, torch.ones(8, 8)) and model[1].weight.grad is None
    assert torch.equal(state, torch.get_rng_state()) and random.getstate() == numbers[0]
    assert (np.random.get_state()[1] == numbers[1]).all()


# Split backwards.


class Force(nn.Module):
    """Differentiates inside its forward: forces from an energy."""

    def __init__(self):
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x):
        x = x if x.requires_grad else x.clone().requires_grad_()
        e = self.energy(x)
        return torch.cat([e, torch.autograd.grad(e.sum(), x, create_graph=True)[0]], 1)


class Penalty(nn.Module):
    """Takes a gradient, and uses only its size."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, x):
        x = x if x.requires_grad else x.clone().requires_grad_()
        y = torch.tanh(self.norm(self.layer(x)))
        (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return y * g.square().mean(1, keepdim=True)


class Beside(nn.Module):
    """Uses a weight beside its layer, three times in all."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        w = self.layer.weight
        return self.layer(x) + functional.linear(torch.tanh(x @ w), w)


@pytest.mark.parametrize("schedule", ["zb-h1", "zb-h2"])
@pytest.mark.parametrize(
    "layers", [lambda: (Force(), nn.Linear(9, 8)), lambda: (Penalty(), nn.Linear(8, 8)),
               lambda: (Beside(), nn.Linear(8, 8))], ids=["force", "penalty", "beside"],
)  # fmt: skip
def test_a_layer_that_cannot_be_split_is_computed_in_i(schedule, layers):
    """Gradients were wrong by orders of magnitude: they went to another micro-batch's queue."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), *layers())
    assert_true(train(model, schedule, ranks=3), model)


# None is not zero.


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.used(x), self.unused(x)


class First(nn.Module):
    def forward(self, x, _):
        return x


class NoGrad(nn.Linear):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [nn.Linear(8, 8), Pair(), First(), nn.Linear(8, 8)],
        lambda: [nn.Linear(8, 8), NoGrad(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)],
    ],
    ids=["an output that nobody uses", "a stage without gradients"],
)
def test_a_gradient_that_plain_torch_leaves_none_is_none(layers):
    """It came home as zeros, and weight decay shrank weights that plain torch leaves alone."""
    torch.manual_seed(0)
    model = nn.Sequential(*layers())
    plain = copy.deepcopy(model)

    class Two(nn.Module):
        def forward(self, x):
            for layer in plain:
                x = layer(*x) if isinstance(x, tuple) else layer(x)
            return x

    def decay(ps):
        return torch.optim.AdamW(ps, lr=0.1, weight_decay=0.5)

    run = train(model, ranks=4, steps=2, optimizer=decay)
    optimizer, (x, y) = decay(plain.parameters()), squares()
    for _ in range(2):
        optimizer.zero_grad()
        functional.mse_loss(Two()(x), y).backward()
        optimizer.step()
    absent = {name for name, p in plain.named_parameters() if p.grad is None}
    assert absent and run.gradients.keys() == {n for n, _ in plain.named_parameters()} - absent
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(run.state_dict[name], value, rtol=1e-4, atol=1e-5)
    assert run.gradient_error <= 1e-5


# In place.


class Double(nn.Module):
    def forward(self, x):
        return x.mul_(2)


@pytest.mark.parametrize("recompute", [None, "in-backward"])
def test_a_layer_that_works_in_place_may_stand_first_on_a_stage(recompute):
    """It got torch's own error, and on stage 0 it changed the batch that every step uses."""
    torch.manual_seed(0)
    model = nn.Sequential(Double(), nn.Linear(8, 8), Double(), nn.Linear(8, 8))
    x, y = squares()
    run = train(model, ranks=4, steps=3, data=(x, y), recompute=recompute)
    assert len(set(run.losses)) == 1 and torch.equal(x, squares()[0])
    assert run.gradient_error <= 1e-5
    done = pipelab.evaluate(model, x, y, functional.mse_loss, schedule="1f1b", ranks=2,
                            microbatches=4, steps=3)  # fmt: skip
    assert len(set(done.losses)) == 1


# Randomness that is not torch's.


class Noise(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.draw = draw
        self.own = np.random.default_rng(1)
        self.torchs = torch.Generator()

    def forward(self, x):
        return x * (1 + self.draw(self))


DRAWS = {
    "numpy": lambda layer: float(np.random.rand()),
    "python": lambda layer: random.random(),
    "a generator of numpy": lambda layer: layer.own.random(),
    "a generator of torch": lambda layer: torch.rand(1, generator=layer.torchs),
}


@pytest.mark.parametrize("workers", ["processes", "threads"])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_all_random_numbers_depend_on_layer_and_microbatch_alone(draw, workers):
    """Ranks drew the same numbers whatever the seed, and recomputing drew others."""
    model = nn.Sequential(nn.Linear(8, 8), Noise(draw), nn.Linear(8, 8), Noise(draw))
    sizes = {"steps": 2, "workers": workers}
    one = train(model, seed=1, ranks=2, **sizes)
    assert one.gradient_error <= 1e-5 and "draws random numbers" in one.gradient_note
    again = train(model, "gpipe", seed=1, ranks=4, recompute="in-backward", **sizes)
    assert one.losses == pytest.approx(again.losses, rel=1e-6)
    assert train(model, seed=2, ranks=2, **sizes).losses != pytest.approx(one.losses, rel=1e-3)
