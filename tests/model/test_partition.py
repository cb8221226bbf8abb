"""Cutting models: names kept, nothing lost, and every refusal says what would work."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipelab.errors import UsageError
from pipelab.model import split, workload


def linears(count):
    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(count)))


@given(st.integers(1, 12), st.data())
def test_stages_are_the_model_in_order(layers, data):
    stages = data.draw(st.integers(1, layers))
    model = linears(layers)
    parts = split(model, stages)
    assert [layer for part in parts for layer in part] == list(model)
    assert [len(part) for part in parts] == [
        len(piece) for piece in torch.arange(layers).tensor_split(stages)
    ]


def test_parameters_keep_their_names_and_their_memory():
    model = workload("gpt", layers=4, width=8).model
    names = {
        name: parameter for part in split(model, 3) for name, parameter in part.named_parameters()
    }
    assert names.keys() == dict(model.named_parameters()).keys()
    assert all(names[name] is parameter for name, parameter in model.named_parameters())


def test_the_stages_one_after_another_compute_what_the_model_computes():
    job = workload("gpt", layers=5, width=8, batch=2)
    x, _ = job.batches(0)
    whole = job.model(x)
    for part in split(job.model, 4):
        x = part(x)
    assert torch.equal(x, whole)


def test_a_list_of_modules_is_a_model():
    parts = split([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)], 2)
    assert [list(part.state_dict()) for part in parts] == [
        ["0.weight", "0.bias"],
        ["2.weight", "2.bias"],
    ]


def test_a_partition_is_followed():
    assert [len(part) for part in split(linears(6), 3, [1, 2, 3])] == [1, 2, 3]


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


@pytest.mark.parametrize(
    "model, stages, partition, message",
    [
        (linears(2), 3, None, "3 stages are more than the 2 layers of the model.*at most 2 stages"),
        (linears(1), 3, None, "more than the 1 layer of the model.*at most 1 stage "),
        (
            linears(8),
            2,
            [3, 3],
            r"the partition \[3, 3\] adds up to 6 layers, but the model has 8.*\[4, 4\]",
        ),
        (linears(8), 3, [4, 4], r"the partition \[4, 4\] names 2 stages, but there are 3"),
        (linears(8), 2, [8, 0], "leaves stage 1 with 0 layers"),
        (linears(8), 2, [9, -1], "leaves stage 1 with -1 layers"),
        (
            Residual(nn.Linear(4, 4)),
            1,
            None,
            "a model of type Residual cannot be cut.*pass an nn.Sequential",
        ),
        (nn.Linear(4, 4), 1, None, "a model of type Linear cannot be cut"),
        (
            [nn.Linear(4, 4), torch.relu],
            1,
            None,
            "layer 1 of the model is a builtin_function_or_method",
        ),
    ],
)
def test_refusals(model, stages, partition, message):
    with pytest.raises(UsageError, match=message):
        split(model, stages, partition)


def tied():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False))
    model[2].weight = model[0].weight
    return model


def test_tied_weights_may_be_on_several_stages():
    first, _, last = split(tied(), 3)
    assert first[0].weight is last[0].weight
    layer = nn.Linear(4, 4)
    assert [part[0] for part in split([layer, layer], 2)] == [layer, layer]


def test_two_parameters_over_one_memory_name_both_layers():
    model = linears(2)
    model[1].weight = nn.Parameter(model[0].weight.data)
    with pytest.raises(
        UsageError,
        match=r"layer 0 and layer 1 share the memory .*\(0.weight and 1.weight\).*stages 0 and 1",
    ):
        split(model, 2)


def test_tied_weights_within_a_stage_are_fine():
    assert [len(part) for part in split(tied(), 1)] == [3]
