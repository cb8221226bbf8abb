"""A multilayer perceptron, and the little task it learns: which arm of a spiral is this point on?

    layer 0        Linear(2, width) and ReLU      (batch, 2)      -> (batch, width)
    layer 1..L-2   Linear(width, width) and ReLU  (batch, width)  -> (batch, width)
    layer L-1      Linear(width, ARMS)            (batch, width)  -> (batch, ARMS)

Equal layers in the middle make it the model of choice for looking at time: every
stage costs the same.
"""

import math
from itertools import pairwise

import torch
from torch import nn

ARMS = 3
"""Arms of the spiral, which are the classes."""


def mlp(*, layers: int, width: int) -> nn.Sequential:
    """`layers` linear layers with a ReLU after each but the last.

    Tensor-parallel workers divide the layers in pairs, by columns and by rows.

    Args:
        layers: how many pieces a pipeline can cut it into; 1 is a linear classifier.
        width: size of the vectors between the layers.

    Source: He et al. 2015, "Delving Deep into Rectifiers", section 2.2 (the initial weights).
    """
    sizes = [2, *[width] * (layers - 1), ARMS]
    linears = [nn.Linear(*pair) for pair in pairwise(sizes)]
    for linear in linears:
        # torch's own initialisation shrinks the signal layer by layer: sixteen layers would not
        # learn at all.
        nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
    hidden = [nn.Sequential(linear, nn.ReLU()) for linear in linears[:-1]]
    model = nn.Sequential(*hidden, linears[-1])
    pairs: dict[str, str] = {}
    for i in range(0, layers - layers % 2, 2):
        second = f"{i + 1}" if i + 2 == layers else f"{i + 1}.0"
        pairs |= {f"{i}.0": "column", second: "row"}
    model.tensor_plan = pairs  # type: ignore[assignment]
    return model


def spirals(points: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Points on `ARMS` spiral arms round the origin, and on which arm each lies.

    Returns:
        Inputs (points, 2) of float32 within about ±1, and targets (points,) of int64.
    """
    arm = torch.randint(ARMS, (points,), generator=generator)
    # The root puts as many points near the rim as there is area.
    radius = torch.rand(points, generator=generator).sqrt()
    noise = 0.1 * torch.randn(points, generator=generator)
    # An arm makes half a turn from the centre to the rim.
    angle = 2 * math.pi * arm / ARMS + math.pi * radius + noise
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), arm
