"""Layers one after the other, and the loss: what every stage, and the unsplit model, computes."""

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

Value = torch.Tensor | tuple[torch.Tensor, ...]
"""What passes between layers: a tensor, or a flat tuple of tensors."""


@dataclass(frozen=True)
class Seeds:
    """Seeds the random numbers of every layer by (run, step, layer, micro-batch), wherever it
    runs.
    """

    seed: int
    step: int
    generator: torch.Generator | None = None
    """Of the rank's GPU, which is seeded too."""

    def set(self, layer: int, microbatch: int) -> None:
        # Python's hash of integers is the same in every process. The generator is seeded directly:
        # torch.manual_seed would also queue a seed for every GPU, with a stack trace, each time.
        seed = hash((self.seed, self.step, layer, microbatch)) & 0x7FFF_FFFF_FFFF_FFFF
        torch.default_generator.manual_seed(seed)
        if self.generator is not None:
            self.generator.manual_seed(seed)

    def states(self) -> list[torch.Tensor]:
        """Where the generators stand."""
        return [torch.default_generator.get_state()] + (
            [self.generator.get_state()] if self.generator is not None else []
        )


def generator_of(device: torch.device) -> torch.Generator | None:
    """The generator of a GPU; None for the processor, whose own is always seeded."""
    return torch.cuda.default_generators[device.index] if device.type == "cuda" else None


class Turns:
    """Random generators are one per process and device: where several ranks share it, layers that
    draw take turns.

    lock: None while a process has one rank. Whether a layer draws is seen when it first runs.
    """

    def __init__(self):
        self.lock: threading.Lock | None = None
        self._draws: dict[int, bool] = {}

    @contextlib.contextmanager
    def take(self, seeds: Seeds, layer: int, microbatch: int):
        """While it lasts, the generator is the layer's, seeded for it; a layer that never draws
        does not wait.
        """
        if self._draws.get(layer) is False:
            yield
            return
        with self.lock:
            seeds.set(layer, microbatch)
            before = None if layer in self._draws else seeds.states()
            yield
            if before is not None:
                self._draws[layer] = not all(map(torch.equal, before, seeds.states()))


TURNS = Turns()


def run_layers(
    layers: list[tuple[int, nn.Module]], value: Value, seeds: Seeds | None, microbatch: int
) -> Value:
    """One layer after the other, each with its own seed (without ``seeds``, as the generator
    stands).

    A layer whose forward takes several arguments gets the parts of a tuple one by one; another gets
    the tuple, as in an nn.Sequential.
    """
    for index, module in layers:
        arguments = (
            (value,)
            if isinstance(value, torch.Tensor) or not _takes_several(type(module))
            else value
        )
        if seeds and TURNS.lock:
            with TURNS.take(seeds, index, microbatch):
                value = module(*arguments)
        else:
            if seeds:
                seeds.set(index, microbatch)
            value = module(*arguments)
        if not isinstance(value, torch.Tensor):
            _require_tensors(value, f"layer {index} ({type(module).__name__})")
    return value


@functools.cache
def _takes_several(layer: type[nn.Module]) -> bool:
    parameters = list(inspect.signature(layer.forward).parameters.values())[1:]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 or any(p.kind == p.VAR_POSITIONAL for p in parameters)


def _require_tensors(value: object, who: str) -> None:
    what = f"a {type(value).__name__}"
    if type(value) is tuple:
        astray = next(
            (i for i, part in enumerate(value) if not isinstance(part, torch.Tensor)), None
        )
        if astray is None and value:
            return
        what = (
            "an empty tuple"
            if not value
            else f"a tuple whose part {astray} is a {type(value[astray]).__name__}"
        )
    raise TypeError(
        f"{who} returned {what}; between the layers of a pipeline passes a tensor or a flat tuple "
        "of tensors"
    )


def weighted_loss(loss: Callable, output: Value, target: Value, weight: float) -> torch.Tensor:
    """The micro-batch's share of the batch's mean loss: scaled before the backward, so gradients
    never are after it.
    """
    value = loss(output, target)
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        raise TypeError(
            f"loss_fn must return one number as a tensor, not {_describe(value)}; average over "
            "the batch"
        )
    return value.reshape(()) * weight


def _describe(value: object) -> str:
    return (
        f"a tensor of shape {tuple(value.shape)}"
        if isinstance(value, torch.Tensor)
        else f"a {type(value).__name__}"
    )
