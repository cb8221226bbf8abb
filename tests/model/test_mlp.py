"""The MLP and its spirals."""

import math

import pytest
import torch

from pipelab.model.mlp import ARMS, mlp, spirals


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_layers_are_what_a_pipeline_can_cut(layers):
    model = mlp(layers=layers, width=8)
    assert len(model) == layers
    assert model(torch.zeros(4, 2)).shape == (4, ARMS)


def test_relu_after_every_layer_but_the_last():
    x = torch.randn(64, 2)
    model = mlp(layers=3, width=8)
    outputs = []
    for layer in model:
        x = layer(x)
        outputs.append(x.min().item())
    assert outputs[0] >= 0 and outputs[1] >= 0 and outputs[2] < 0


def test_points_lie_on_the_arm_they_are_labelled_with():
    points, arm = spirals(1000, torch.Generator().manual_seed(0))
    radius = points.norm(dim=1)
    unwound = torch.atan2(points[:, 1], points[:, 0]) - math.pi * radius - 2 * math.pi * arm / ARMS
    off = (unwound + math.pi) % (2 * math.pi) - math.pi
    assert off.abs().max() < 0.5 and off.std() > 0.05  # the noise, and no more
    assert sorted(arm.unique().tolist()) == [0, 1, 2]
