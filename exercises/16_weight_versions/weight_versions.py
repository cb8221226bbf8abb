"""Exercise 16: which weights a micro-batch sees without a flush, and a stage that keeps them."""

import torch


def stashed(ranks: int, microbatches: int) -> list[list[tuple[int, int]]]:
    """PipeDream: for each stage and micro-batch the version of (its forward, its backward).

    The last stage is never late; its first micro-batches:

        >>> stashed(4, 6)[3][:3]
        [(0, 0), (1, 1), (2, 2)]
    """
    raise NotImplementedError("exercise 16: stashed")


def double_buffered(ranks: int, microbatches: int) -> list[list[tuple[int, int]]]:
    """PipeDream-2BW, a step after every ``ranks`` micro-batches: the same table. microbatches is a multiple of ranks.

        >>> double_buffered(2, 6)[0]
        [(0, 0), (0, 0), (0, 0), (0, 0), (1, 1), (1, 1)]
    """
    raise NotImplementedError("exercise 16: double_buffered")


class StashingStage:
    """A stage of a pipeline without a flush; stage: a part of a model, lr: the learning rate of plain SGD."""

    def __init__(self, stage: torch.nn.Module, lr: float):
        raise NotImplementedError("exercise 16: StashingStage.__init__")

    def forward(self, microbatch: int, x: torch.Tensor) -> torch.Tensor:
        """The output for x, with the newest weights."""
        raise NotImplementedError("exercise 16: StashingStage.forward")

    def backward(self, microbatch: int, dy: torch.Tensor) -> torch.Tensor:
        """The gradient of x, for dy, the gradient of the output; with the weights of this micro-batch's forward."""
        raise NotImplementedError("exercise 16: StashingStage.backward")

    def step(self) -> None:
        """Make the next version: the newest − lr · (sum of the gradients since the last step)."""
        raise NotImplementedError("exercise 16: StashingStage.step")
