"""One stage of the model on its rank: forward, backward, and what it keeps in between."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge, saved_tensors_hooks


@dataclass(slots=True)
class InFlight:
    """What a stage keeps of a micro-batch from F to B. The output itself is gone: only its place in the graph is kept."""

    input: torch.Tensor
    root: GradientEdge | None
    saved_bytes: int


class Stage:
    """A consecutive part of the model.

    layers: (index in the whole model, module) in order. loss: on the last stage, (output, target) -> mean; else None.
    Raises TypeError when a layer returns anything but one tensor.
    """

    def __init__(self, index: int, layers: list[tuple[int, nn.Module]], loss: Callable | None):
        self.index, self.layers, self.loss = index, layers, loss
        self._in_flight: dict[int, InFlight] = {}
        state = [t for _, module in layers for t in (*module.parameters(), *module.buffers())]
        self._own = {t.untyped_storage().data_ptr() for t in state}
        self._known_bytes: dict[int, int] = {}

    def forward(
        self, microbatch: int, x: torch.Tensor, seeds: "Seeds", target: torch.Tensor | None, weight: float
    ) -> tuple[torch.Tensor, int]:
        """Runs the layers on x. Returns the output, or on the last stage the weighted loss, and the bytes it keeps.

        The bytes are counted the first time a micro-batch passes, and known from then on.
        """
        if self.index:
            if not x.is_floating_point():
                raise TypeError(f"stage {self.index} received a tensor of {x.dtype}, which carries no gradient back")
            x = x.requires_grad_()
        known = self._known_bytes.get(microbatch)
        if known is None:
            with SavedBytes(self._own) as counter:
                output = self._compute(microbatch, x, seeds, target, weight)
            known = self._known_bytes[microbatch] = counter.total
        else:
            output = self._compute(microbatch, x, seeds, target, weight)
        root = get_gradient_edge(output) if output.requires_grad else None
        self._in_flight[microbatch] = InFlight(x, root, known)
        return output.detach(), known

    def _compute(self, microbatch, x, seeds, target, weight) -> torch.Tensor:
        output = run_layers(self.layers, x, seeds, microbatch)
        return output if self.loss is None else weighted_loss(self.loss, output, target, weight)

    def backward(self, microbatch: int, gradient: torch.Tensor | None) -> tuple[torch.Tensor | None, int]:
        """Adds the micro-batch's gradients to the parameters.

        gradient: of the output; None on the last stage. Returns the gradient of the input (None where the input has none)
        and the bytes that are free now.
        """
        kept = self._in_flight.pop(microbatch)
        if kept.root is not None:
            torch.autograd.backward(kept.root, gradient)
        grad = kept.input.grad
        if grad is None and kept.input.requires_grad:
            grad = torch.zeros_like(kept.input)  # the stage does not use its input
        return grad, kept.saved_bytes


@dataclass(frozen=True)
class Seeds:
    """Seeds the random numbers of every layer by (run, step, layer, micro-batch), wherever it runs."""

    seed: int
    step: int

    def set(self, layer: int, microbatch: int) -> None:
        # Python's hash of integers is the same in every process. The generator is seeded directly: torch.manual_seed
        # would also queue a seed for every GPU, with a stack trace, each time.
        torch.default_generator.manual_seed(hash((self.seed, self.step, layer, microbatch)) & 0x7FFF_FFFF_FFFF_FFFF)


def run_layers(layers: list[tuple[int, nn.Module]], x: torch.Tensor, seeds: Seeds | None, microbatch: int) -> torch.Tensor:
    """One layer after the other, each with its own seed (without ``seeds``, as the generator stands)."""
    for index, module in layers:
        if seeds:
            seeds.set(index, microbatch)
        x = module(x)
        if not isinstance(x, torch.Tensor):
            raise TypeError(
                f"layer {index} ({type(module).__name__}) returned a {type(x).__name__}; "
                "between the layers of a pipeline passes one tensor"
            )
    return x


def weighted_loss(loss: Callable, output: torch.Tensor, target: torch.Tensor, weight: float) -> torch.Tensor:
    """The micro-batch's share of the batch's mean loss: scaled before the backward, so gradients never are after it."""
    value = loss(output, target)
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        raise TypeError(f"loss_fn must return one number as a tensor, not {_describe(value)}; average over the batch")
    return value.reshape(()) * weight


def _describe(value: object) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"


class SavedBytes:
    """Counts the bytes that autograd saves for the backward: each storage once, parameters and buffers not at all."""

    def __init__(self, excluded: set[int]):
        self._seen, self.total = set(excluded), 0
        self._hooks = saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.total += storage.nbytes()
        return tensor

    def __enter__(self) -> "SavedBytes":
        self._hooks.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._hooks.__exit__(*exception)
