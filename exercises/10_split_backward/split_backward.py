"""Exercise 10: the backward of a Linear in two parts, I now and W later.

    >>> layer = SplitLinear(torch.nn.Linear(4, 3))
    >>> y = layer.forward(0, torch.ones(2, 4))              # 0F0: y of shape (2, 3)
    >>> dx = layer.input_gradient(0, torch.ones(2, 3))      # 0I0: dx of shape (2, 4); no .grad yet
    >>> layer.weight_gradient(0)                            # 0W0: now .grad is there
"""

import torch


class SplitLinear:
    """Runs a Linear without autograd. linear.weight: (outputs, inputs); linear.bias: (outputs,) or None."""

    def __init__(self, linear: torch.nn.Linear):
        raise NotImplementedError("exercise 10: SplitLinear.__init__")

    def forward(self, microbatch: int, x: torch.Tensor) -> torch.Tensor:
        """x: (…, inputs). Returns y: (…, outputs), and keeps what the two parts of the backward need."""
        raise NotImplementedError("exercise 10: SplitLinear.forward")

    def input_gradient(self, microbatch: int, dy: torch.Tensor) -> torch.Tensor:
        """dy: (…, outputs), the gradient of the loss for y. Returns dx: (…, inputs), and keeps what W needs."""
        raise NotImplementedError("exercise 10: SplitLinear.input_gradient")

    def weight_gradient(self, microbatch: int) -> None:
        """Adds dW (outputs, inputs) and db (outputs,) of this micro-batch to ``linear.weight.grad`` and ``linear.bias.grad``."""
        raise NotImplementedError("exercise 10: SplitLinear.weight_gradient")
