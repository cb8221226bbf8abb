"""Exercise 02: a model in two parts, forward and backward by hand across the cut.

    rank 0   x ─ first_forward ─▶ sent                       first_backward ◀─ gradient
                                   │ bytes                                        │ bytes
    rank 1                        received ─ last_forward ─▶ loss, last_backward ─▶ gradient
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


def split(layers: Sequence[nn.Module], boundary: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Layers 0 to boundary − 1, and the others; 0 < boundary < len(layers).

    >>> split([nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)], 1)      # two parts: one layer, and two
    """
    raise NotImplementedError("exercise 02: split")


def first_forward(part: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """x: (microbatch, inputs). Returns (what is sent, of shape (microbatch, hidden) and without a graph; what is kept)."""
    raise NotImplementedError("exercise 02: first_forward")


def last_forward(part: nn.Module, received: torch.Tensor, y: torch.Tensor, loss_fn: Callable) -> tuple[float, Any]:
    """received: (microbatch, hidden). y: (microbatch, outputs). Returns (the loss as a number, what is kept)."""
    raise NotImplementedError("exercise 02: last_forward")


def last_backward(kept: Any) -> torch.Tensor:
    """Adds to the .grad of this part. Returns the gradient of the loss for what was received: (microbatch, hidden)."""
    raise NotImplementedError("exercise 02: last_backward")


def first_backward(kept: Any, gradient: torch.Tensor) -> None:
    """Adds to the .grad of this part. gradient: of the loss for what was sent, (microbatch, hidden)."""
    raise NotImplementedError("exercise 02: first_backward")
