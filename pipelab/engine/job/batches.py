"""From a user's inputs and targets to the micro-batches of a step."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ...errors import UsageError
from .callables import require_takes
from .values import Alone, Value, describe


@dataclass(frozen=True, slots=True)
class Batch:
    """The micro-batches of one step.

    inputs, targets: None on a rank that does not run the stage that needs them. shares: of each
    micro-batch in the batch's mean loss.
    """

    inputs: tuple[Value, ...] | None
    targets: tuple[Value, ...] | None
    shares: tuple[float, ...]

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        if device.type == "cpu":
            return self
        return Batch(_moved(self.inputs, device), _moved(self.targets, device), self.shares)

    def inputs_of(self, microbatch: int) -> Value:
        """The inputs of a micro-batch, on a rank that has them."""
        return (self.inputs or ())[microbatch]

    def targets_of(self, microbatch: int) -> Value:
        """The targets of a micro-batch, on a rank that has them."""
        return (self.targets or ())[microbatch]


def _moved(values: tuple[Value, ...] | None, device: torch.device) -> tuple[Value, ...] | None:
    if values is None:
        return None
    # From pageable memory, "not blocking" returns when CUDA has taken the data. Blocking, it would
    # also wait for all that is queued on the GPU.
    return tuple(value.each(lambda t: t.to(device, non_blocking=True)) for value in values)


@dataclass(frozen=True)
class Data:
    """The batches of a run. fixed: the one that every step uses, or None."""

    batch: Callable[[int], Batch]
    fixed: Batch | None


def data_of(
    inputs: Any, targets: Any, microbatches: int, weight: Callable | None, *, copies: int = 1
) -> Data:
    """The batches of a run, from a batch or from a callable step -> (inputs, targets).

    copies: of the pipeline; each has so many micro-batches of its share. weight: of a
    micro-batch's targets, where it is not the number of samples. Raises UsageError for what cannot
    be split, at once where the batch is fixed.
    """
    if callable(inputs):
        if targets is not None:
            raise UsageError(
                "inputs is callable and gives inputs and targets of a step, so targets must be "
                "None."
            )
        require_inputs(inputs)

        def of_step(step: int) -> Batch:
            pair = inputs(step)
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise UsageError(
                    f"inputs({step}) returned {describe(pair)}, not (inputs, targets)."
                )
            return _split_batch(pair[0], pair[1], (copies, microbatches), weight)

        return Data(of_step, None)
    if weight is not None:
        how = "it takes the target of a micro-batch and returns what that counts, one number"
        require_takes("weight", weight, ("target",), how)
    if targets is None:
        raise UsageError(
            "targets is missing: pass the targets of the batch, or a callable step -> (inputs, "
            "targets). Of a DataLoader: batches = iter(loader), and inputs=lambda step: "
            "next(batches)."
        )
    fixed = _split_batch(inputs, targets, (copies, microbatches), weight)
    return Data(lambda _: fixed, fixed)


def require_inputs(inputs: object) -> None:
    """Raise UsageError for a function that gives no batch of a step."""
    how = "as a function it takes the number of a step and returns (inputs, targets)"
    require_takes("inputs", inputs, ("step",), how)


def _split_batch(
    inputs: Any, targets: Any, parts: tuple[int, int], weight: Callable | None
) -> Batch:
    """parts: copies of the pipeline, and micro-batches of each."""
    copies, microbatches = parts
    size = _size(inputs, targets)
    if not size:
        raise UsageError("The batch is empty: its first dimension, the samples, is 0.")
    if size // copies < microbatches:
        each = f"{copies} copies of {microbatches}" if copies > 1 else str(microbatches)
        fewer = (
            f"at most {size // copies} with {copies} copies" if copies > 1 else f"at most {size}"
        )
        raise UsageError(
            f"A batch of {size} cannot be split into {each} micro-batches: use {fewer}, or a "
            "larger batch."
        )
    xs, ys = _pieces(inputs, parts), _pieces(targets, parts)
    if weight:
        weights = [_counted(weight, y) for y in ys]
    else:
        weights = [float(len(piece)) for piece in _cut(torch.arange(size), parts)]
    total = sum(weights)
    if not 0 < total < math.inf or min(weights) < 0:
        raise UsageError(
            f"The weights of the micro-batches are {weights}; they must be finite, 0 or more and "
            "not all 0."
        )
    return Batch(xs, ys, tuple(each / total for each in weights))


def _counted(weight: Callable, target: Value) -> float:
    """What a micro-batch counts."""
    counts = weight(target.opened())
    try:
        return float(counts)
    except (TypeError, ValueError, RuntimeError):
        what = describe(counts)
        raise UsageError(
            f"weight must return one number for the target of a micro-batch, not {what}; such as "
            "lambda t: (t != -100).sum()."
        ) from None


def _size(inputs: Any, targets: Any) -> int:
    """The first dimension that all tensors of a batch have. Raises UsageError."""
    sizes: list[list[int]] = []
    for name, value in (("inputs", inputs), ("targets", targets)):
        parts = value if type(value) is tuple and value else (value,)
        for part in parts:
            if not isinstance(part, torch.Tensor) or part.dim() == 0:
                raise UsageError(
                    f"{name} must be a tensor whose first dimension is the batch, or a tuple of "
                    f"such tensors, not {describe(part)}."
                )
            if part.layout is not torch.strided or part.is_nested:
                kind = "nested" if part.is_nested else str(part.layout).removeprefix("torch.")
                raise UsageError(
                    f"{name} has a {kind} tensor, which cannot be split into micro-batches: make "
                    "it dense (to_dense(), or padded)."
                )
        sizes.append([part.shape[0] for part in parts])
    if len({*sizes[0], *sizes[1]}) > 1:
        ins, outs = ("/".join(map(str, dict.fromkeys(each))) for each in sizes)
        raise UsageError(
            f"There are {ins} inputs but {outs} targets; the first dimension of both is the batch."
        )
    return sizes[0][0]


def _cut(tensor: torch.Tensor, parts: tuple[int, int]) -> list[torch.Tensor]:
    """Micro-batches: the samples are divided among copies first."""
    copies, microbatches = parts
    return [p for share in tensor.tensor_split(copies) for p in share.tensor_split(microbatches)]


def _pieces(
    value: torch.Tensor | tuple[torch.Tensor, ...], parts: tuple[int, int]
) -> tuple[Value, ...]:
    """Micro-batches on the processor, each with memory of its own."""
    if isinstance(value, torch.Tensor):
        pieces = _cut(value, parts)
        return tuple(Alone((piece.detach().to("cpu", copy=True),)) for piece in pieces)
    tensors = [_pieces(part, parts) for part in value]
    return tuple(Value(tensor for (tensor,) in of_one) for of_one in zip(*tensors, strict=True))
