"""Profiles: seconds are of the layer, bytes are what autograd saves, and nothing is changed."""

import copy
import json
import time

import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab.errors import UsageError
from pipelab.layout import Profile
from pipelab.model import workload


def plain_saved_bytes(model, x, y, loss_fn):
    """What autograd keeps of one pass of the whole model, counted by torch's hooks alone."""
    model, x, y = copy.deepcopy(model), x.clone(), y.clone()
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    found, alive = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loss_fn(model(x), y)
    assert loss.requires_grad
    return sum(found.values())


@pytest.mark.parametrize("name", ["gpt", "mlp"])
def test_bytes_of_all_layers_are_those_of_the_whole_model(name):
    job = workload(name, layers=5, width=16, batch=12)
    x, y = job.batches(0)
    found = pipelab.profile(job.model, x, y, job.loss_fn, microbatches=3, repeats=1)
    assert found.microbatch == 4 and found.dtype == "float32" and found.device == "cpu"
    kept = sum(each.activation_bytes for each in (*found.layers, found.loss))
    assert kept == plain_saved_bytes(job.model, x[:4], y[:4], job.loss_fn)
    sizes = [sum(p.nbytes for p in layer.parameters()) for layer in job.model]
    assert [layer.parameter_bytes for layer in found.layers] == sizes
    assert found.input_bytes == x[:4].nbytes


@pytest.mark.parametrize("name", ["gpt", "mlp"])
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_bytes_of_a_stage_are_measured_ones(name, cut):
    """A cut makes the stage after it save its input anew."""
    job = workload(name, layers=5, width=16, batch=8)
    x, y = job.batches(0)
    found = pipelab.profile(job.model, x, y, job.loss_fn, microbatches=2, repeats=1)
    run = pipelab.run(
        job.model, x, y, job.loss_fn, schedule="naive", ranks=2, microbatches=2,
        partition=[cut, 5 - cut],
    )  # fmt: skip
    first = sum(layer.activation_bytes for layer in found.layers[:cut])
    last = sum(layer.activation_bytes for layer in (*found.layers[cut:], found.loss))
    last += found.layers[cut].saved_input_bytes
    assert run.peak_activation_bytes == [first, last]


def test_a_linear_saves_its_input_and_a_relu_its_output():
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    x, y = torch.randn(8, 16), torch.randn(8, 4)
    linear, relu, last = pipelab.profile(model, x, y, functional.mse_loss, repeats=1).layers
    assert [layer.name for layer in (linear, relu)] == ["0 Linear", "1 ReLU"]
    row = 8 * 16 * 4
    assert (linear.activation_bytes, linear.saved_input_bytes) == (row, 0)
    assert (relu.activation_bytes, relu.saved_input_bytes) == (row, 0)
    assert (last.activation_bytes, last.saved_input_bytes) == (0, row)  # what the ReLU has kept
    assert (last.output_bytes, last.parameter_bytes) == (8 * 4 * 4, (16 * 4 + 4) * 4)
    assert relu.weight_grad == 0 < linear.weight_grad


class Slow(nn.Module):
    def forward(self, x):
        time.sleep(0.02)
        return x * 1


def test_seconds_are_those_of_the_layer():
    layers = [nn.Linear(4, 4), Slow(), nn.Linear(4, 4)]
    x = torch.randn(4, 4)
    found = pipelab.profile(layers, x, x, functional.mse_loss, repeats=3)
    assert found.layers[1].forward >= 0.02 > found.layers[1].input_grad
    assert found.layers[0].forward < 0.02 > found.layers[2].forward
    assert found.seconds == pytest.approx(sum(x.seconds for x in (*found.layers, found.loss)))


def test_nothing_of_the_caller_changes():
    model = nn.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Dropout(0.5)
    )
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(6, 4)
    kept, state, threads = x.clone(), torch.get_rng_state(), torch.get_num_threads()
    pipelab.profile(model, x, x, functional.mse_loss, repeats=2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(x, kept) and torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads and "forward" not in vars(model[0])


def test_layers_that_work_in_place_and_tuples():
    class Two(nn.Module):
        def forward(self, x):
            return x.relu_(), torch.arange(3)

    class One(nn.Module):
        def forward(self, x, _):
            return x.mul_(2)

    x = torch.randn(4, 4)
    found = pipelab.profile([nn.Linear(4, 4), Two(), One()], x, x, functional.mse_loss, repeats=1)
    assert found.layers[1].output_bytes == 4 * 4 * 4 + 3 * 8


def test_half_precision_takes_half():
    job = workload("gpt", layers=4, width=32, batch=8)
    x, y = job.batches(0)
    full, half = (
        pipelab.profile(job.model, x, y, job.loss_fn, repeats=1, dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    assert half.dtype == "bfloat16"
    assert half.layers[1].activation_bytes < 0.8 * full.layers[1].activation_bytes
    assert half.layers[1].parameter_bytes == full.layers[1].parameter_bytes  # autocast keeps them


class Broken(nn.Module):
    def forward(self, x):
        return x.view(3, 5)


@pytest.mark.parametrize(
    ("layers", "options", "text"),
    [
        (
            [nn.Linear(4, 4), Broken()],
            {},
            r"layer 1 \(Broken\) cannot be profiled: it was given a tensor of shape \(4, 4\) and "
            "raised RuntimeError: shape",
        ),
        ([nn.Linear(4, 3)], {}, "the loss cannot be profiled: it was given a tensor of shape"),
        ([nn.Linear(4, 4)], {"repeats": 0}, "repeats is 0; it is a whole number"),
        ([nn.Linear(4, 4)], {"microbatches": 5}, "A batch of 4 cannot be split into 5"),
        (nn.Linear(4, 4), {}, "a model of type Linear cannot be cut"),
        ([nn.Linear(4, 4)], {"dtype": "float8"}, "no dtype 'float8'"),
    ],
)
def test_refusals(layers, options, text):
    x = torch.randn(4, 4)
    loss = nn.functional.l1_loss if not isinstance(layers, list) else _strict
    with pytest.raises(UsageError, match=text):
        pipelab.profile(layers, x, x, loss, **options)


def _strict(output, target):
    if output.shape != target.shape:
        raise ValueError("shapes differ")
    return (output - target).square().mean()


def test_the_command_writes_what_it_prints(capsys, tmp_path):
    from pipelab.cli import main

    path = tmp_path / "profile.json"
    flags = ["--model", "mlp", "--layers", "3", "--width", "8", "--microbatches", "8"]
    assert main(["profile", *flags, "--save", str(path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads(path.read_text())
    found = Profile.load(path)
    assert found.to_json() == data and found.microbatch == 4 and len(found.layers) == 3
    assert main(["profile", *flags]) == 0
    assert "a micro-batch of 4 on cpu, float32" in capsys.readouterr().out
    assert main(["profile", *flags, "--dtype", "bfloat16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dtype"] == "bfloat16"
    assert main(["profile", "--save", "nowhere/x.json"]) == 2
    assert "its folder does not exist" in capsys.readouterr().err
    assert main(["profile", "--microbatches", "0"]) == 2
