"""From a user's inputs and targets to the micro-batches of a step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import UsageError
from .layers import Value


@dataclass(frozen=True, slots=True)
class Batch:
    """The micro-batches of one step; a rank has the inputs or the targets only if it runs the stage
    that needs them.
    """

    inputs: tuple[Value, ...] | None
    targets: tuple[Value, ...] | None
    weights: tuple[float, ...]

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        if device.type == "cpu":
            return self
        inputs, targets = (_moved(values, device) for values in (self.inputs, self.targets))
        return Batch(inputs, targets, self.weights)


def _moved(values: tuple[Value, ...] | None, device: torch.device) -> tuple[Value, ...] | None:
    if values is None:
        return None
    return tuple(
        v.to(device) if isinstance(v, torch.Tensor) else tuple(t.to(device) for t in v)
        for v in values
    )


def batches_of(
    inputs: Any, targets: Any, microbatches: int, weight: Callable | None
) -> Callable[[int], Batch]:
    """step -> the micro-batches of that step, each a tensor of its own."""
    if callable(inputs):
        if targets is not None:
            raise UsageError(
                "inputs is callable and gives inputs and targets of a step, so targets must be "
                "None."
            )

        def of_step(step: int) -> Batch:
            pair = inputs(step)
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise UsageError(
                    f"inputs({step}) returned a {type(pair).__name__}, not (inputs, targets)."
                )
            return _split_batch(*pair, microbatches, weight)

        return of_step
    if targets is None:
        raise UsageError(
            "targets is missing: pass the targets of the batch, or a callable step -> (inputs, "
            "targets)."
        )
    batch = _split_batch(inputs, targets, microbatches, weight)
    return lambda step: batch


def _split_batch(inputs: Any, targets: Any, microbatches: int, weight: Callable | None) -> Batch:
    for name, value in (("inputs", inputs), ("targets", targets)):
        for part in value if type(value) is tuple and value else (value,):
            if not isinstance(part, torch.Tensor) or part.dim() == 0:
                raise UsageError(
                    f"{name} must be a tensor whose first dimension is the batch, or a tuple of "
                    f"such tensors, not {type(part).__name__}."
                )
    sizes = [
        [part.shape[0] for part in (value if type(value) is tuple else (value,))]
        for value in (inputs, targets)
    ]
    size = sizes[0][0]
    if {*sizes[0], *sizes[1]} != {size}:
        ins, outs = ("/".join(map(str, dict.fromkeys(each))) for each in sizes)
        raise UsageError(
            f"There are {ins} inputs but {outs} targets; the first dimension of both is the batch."
        )
    if microbatches > size:
        raise UsageError(
            f"A batch of {size} cannot be split into {microbatches} micro-batches: use at most "
            f"{size}, or a larger batch."
        )
    xs, ys = (_pieces(value, microbatches) for value in (inputs, targets))
    shares = (
        [float(weight(y)) for y in ys] if weight else torch.arange(size).tensor_split(microbatches)
    )
    shares = shares if weight else [len(piece) for piece in shares]
    total = sum(shares)
    if not total > 0 or min(shares) < 0:
        raise UsageError(
            f"The weights of the micro-batches are {shares}; they must be 0 or more and not all 0."
        )
    return Batch(xs, ys, tuple(share / total for share in shares))


def _pieces(value: Value, microbatches: int) -> tuple[Value, ...]:
    """Micro-batches on the processor, each with memory of its own."""
    if isinstance(value, torch.Tensor):
        return tuple(
            piece.detach().to("cpu", copy=True) for piece in value.tensor_split(microbatches)
        )
    return tuple(zip(*(_pieces(part, microbatches) for part in value), strict=True))
