"""Exercise 03: split a batch into micro-batches, with an uneven tail, and get the whole batch's gradients.

    >>> sizes_of(10, 4)
    [3, 3, 2, 2]
    >>> [len(piece) for piece in split(torch.zeros(10, 5), 4)], merge(split(torch.zeros(10, 5), 4)).shape
    ([3, 3, 2, 2], torch.Size([10, 5]))
"""

from collections.abc import Callable, Sequence

import torch


def sizes_of(batch: int, microbatches: int) -> list[int]:
    """Samples in each micro-batch; 1 ≤ microbatches ≤ batch. Differ by at most one, the longer ones first."""
    raise NotImplementedError("exercise 03: sizes_of")


def split(x: torch.Tensor, microbatches: int) -> list[torch.Tensor]:
    """x of shape (batch, …) as micro-batches of shape (sizes_of(batch, microbatches)[i], …), in order."""
    raise NotImplementedError("exercise 03: split")


def merge(pieces: Sequence[torch.Tensor]) -> torch.Tensor:
    """Micro-batches of shape (n_i, …) as one batch of shape (sum of n_i, …), in order."""
    raise NotImplementedError("exercise 03: merge")


def accumulate(model: torch.nn.Module, loss_fn: Callable, x: torch.Tensor, y: torch.Tensor, microbatches: int) -> float:
    """Adds the gradient of ``loss_fn(model(x), y)`` to every ``.grad``, one micro-batch at a time. Returns the batch's loss.

    x: (batch, inputs). y: (batch, outputs). loss_fn: (output, target) -> their mean loss, a scalar tensor.
    """
    raise NotImplementedError("exercise 03: accumulate")
