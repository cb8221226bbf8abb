"""A micro-batch that goes through layers one by one, with a clock and a count of bytes.

    micro-batch ─▶ layer 0 ─▶ layer 1 ─▶ … ─▶ loss        F of each, and what it saves
                ◀─ I and W ◀─ I and W ◀─ … ◀─             I and W of each

It goes through whole first, as in most schedules: that gives the times of F and B = I + W. Then the
backwards are split, which says how B divides. (Split ones take a little longer altogether.)
Gradients are added to those of the pass before, as of the micro-batch before. A GPU is kept busy
through the pass, as by a rank, and timed by its own events.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

from ..errors import UsageError
from ..layout import LayerProfile
from .job.values import Alone, Value, describe
from .stage.deferred import Deferred, kept_bytes
from .stage.gradients import ask_for_gradients, can_have_gradient, input_gradients, run_backward
from .stage.layers import run_layers, weighted_loss
from .stage.saved_bytes import SavedBytes, storages
from .stage.split import DeferredGradients
from .stage.splittable import DifferentiatesInForward

Marks = tuple[Any, Any]
"""When something began and ended."""
WARM_UP = 2
"""Passes that are not timed: the first counts bytes, and torch sets up in both."""


@dataclass
class BenchLayer:
    """One layer on the bench: how it runs, and what was measured of it.

    whole, split: seconds of each pass, (F, B, 0) and (F, I, W). saved: addresses and bytes of what
    its forward saved. deferred: bytes that W needs, of activations and of gradients.
    """

    index: int
    module: nn.Module
    whole: list[tuple[float, float, float]] = field(default_factory=list)
    split: list[tuple[float, float, float]] = field(default_factory=list)
    saved: dict[int, int] = field(default_factory=dict)
    deferred: tuple[int, int] = (0, 0)
    activation_bytes: int = 0
    saved_input_bytes: int = 0
    output_bytes: int = 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Its weights."""
        return list(self.module.parameters())

    def run(self, value: Value) -> Value:
        """Its forward."""
        return run_layers([(self.index, self.module)], value, None, 0)

    def profile(self, name: str) -> LayerProfile:
        """The medians of what was measured."""
        forward, backward, _ = np.median(self.whole, axis=0).tolist()
        _, input_grad, weight_grad = np.median(self.split, axis=0).tolist()
        share = weight_grad / (input_grad + weight_grad) if self.parameters else 0.0
        low, high = np.percentile(np.sum(self.whole, axis=1), [25, 75])
        return LayerProfile(
            name=name,
            forward=forward,
            input_grad=(1 - share) * backward,
            weight_grad=share * backward,
            activation_bytes=self.activation_bytes,
            saved_input_bytes=self.saved_input_bytes,
            output_bytes=self.output_bytes,
            parameter_bytes=sum(storages(self.parameters).values()),
            deferred_activation_bytes=self.deferred[0],
            deferred_gradient_bytes=self.deferred[1],
            spread=float(high - low),
        )


class BenchLoss(BenchLayer):
    """The loss, which comes last and has no weights."""

    def __init__(self, index: int, loss_fn: Callable, target: Value):
        super().__init__(index, nn.Identity())
        self._loss_fn, self._target = loss_fn, target

    def run(self, value: Value) -> Value:
        """The loss of the micro-batch."""
        return Alone((weighted_loss(self._loss_fn, value, self._target, 1.0),))


class Bench:
    """A micro-batch that goes through the layers one by one, forth and back.

    Between two layers the graph is cut, as it is between two stages, but the tensors stay the same:
    so it is seen which storage was saved before.
    """

    def __init__(self, layers: list[BenchLayer], value: Value, where: torch.device, *, half: bool):
        self._layers, self._where, self._half = layers, where, half
        self._value = value.each(torch.clone)
        self._deferred = DeferredGradients()

    def measure(self, repeats: int) -> None:
        """Take the times of so many passes, whole and split, and count the bytes."""
        for _ in range(WARM_UP + repeats):
            self._pass()
        for layer in self._layers:
            layer.whole, layer.split = layer.split[WARM_UP:], []
            self._deferred.defer(layer.module)
        for number in range(WARM_UP + repeats):
            self._pass(counting=number == 0)
        for layer in self._layers:
            del layer.split[:WARM_UP]

    def _pass(self, *, counting: bool = False) -> None:
        """Once forth and back."""
        value, calls, marked = self._value, [], []
        with torch.autocast(self._where.type, torch.bfloat16, enabled=self._half):
            for layer in self._layers:
                cut = value.each(torch.Tensor.detach)
                output, forward = self._forward(layer, cut, counting=counting)
                calls.append((layer, cut, output, forward))
                value = output
        if counting:
            self._count([(layer, cut, output) for layer, cut, output, _ in calls])
        gradient = None
        while calls:
            layer, cut, output, forward = calls.pop()
            gradient, more = self._backward(layer, cut, output, gradient, counting=counting)
            marked.append((layer, (forward, *more)))
            for parameter in layer.parameters:
                if parameter.grad is not None and parameter.grad.is_sparse:  # would grow
                    parameter.grad = None
        if self._where.type == "cuda":
            torch.cuda.synchronize(self._where)
        for layer, marks in marked:
            f, i, w = (_between(*each) for each in marks)
            layer.split.append((f, i, w))

    def _forward(self, layer: BenchLayer, value: Value, *, counting: bool) -> tuple[Value, Marks]:
        with _naming(layer, value):
            if layer.index:
                ask_for_gradients(layer.index, value)
                value = value.each(_inner)
            else:
                value = value.each(torch.clone)
            if not counting:
                began = self._now()
                output = layer.run(value)
                return output, (began, self._now())
            return self._counted(layer, value), (0.0, 0.0)

    def _counted(self, layer: BenchLayer, value: Value) -> Value:
        """A forward that notes what is saved; again where a layer cannot be split."""
        own = set(storages((*layer.parameters, *layer.module.buffers())))
        while True:
            try:
                with SavedBytes(own) as counter:
                    self._deferred.counter = counter
                    output = layer.run(value)
                astray = self._deferred.used_elsewhere(output)
            except DifferentiatesInForward as error:
                astray = self._deferred.beside(error.module)
            finally:
                self._deferred.counter = None
            if not astray:
                layer.saved = dict(counter.log)
                return output
            self._deferred.leave_to_i(astray)

    def _count(self, calls: list[tuple[BenchLayer, Value, Value]]) -> None:
        """Share out what was saved: while the graphs live, an address is one storage."""
        before: set[int] = set()
        for layer, value, output in calls:
            inputs = storages(value)
            new = {address: size for address, size in layer.saved.items() if address not in before}
            shared = layer.saved.keys() & inputs.keys() & before
            layer.activation_bytes = sum(new.values())
            layer.saved_input_bytes = sum(layer.saved[address] for address in shared)
            layer.output_bytes = sum(tensor.nbytes for tensor in output)
            before |= new.keys()

    def _backward(
        self,
        layer: BenchLayer,
        value: Value,
        output: Value,
        gradient: Value | None,
        *,
        counting: bool,
    ) -> tuple[Value, tuple[Marks, Marks]]:
        able = [t for t in output if output.alone or can_have_gradient(t)]
        roots = [get_gradient_edge(t) if t.requires_grad else None for t in able]
        queue: list[Deferred] = []
        self._deferred.queue = queue
        try:
            with _naming(layer, value):
                began = self._now()
                run_backward(roots, gradient)
                between = self._now()
        finally:
            self._deferred.queue = None
        result = input_gradients(value)
        if counting:
            layer.deferred = kept_bytes(queue)
        resumed = self._now()
        self._deferred.add(queue)
        return result, ((began, between), (resumed, self._now()))

    def _now(self) -> Any:
        """The host's time, or an event of the GPU, which does not wait."""
        if self._where.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _between(began: Any, ended: Any) -> float:
    """Seconds from one mark to the other; of events, once both have come to pass."""
    return ended - began if isinstance(began, float) else began.elapsed_time(ended) / 1e3


def _inner(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as something that was computed: in place, torch changes no leaf."""
    return torch.ops.aten._unsafe_view(tensor, tensor.shape)


@contextmanager
def _naming(layer: BenchLayer, value: Value) -> Iterator[None]:
    """Say which layer it was that could not be run, and what it was given."""
    try:
        yield
    except Exception as error:
        who = f"layer {layer.index} ({type(layer.module).__name__})"
        if isinstance(layer, BenchLoss):
            who = "the loss"
        given = ", ".join(map(describe, value))
        first = str(error).strip().splitlines()[:1] or [""]
        raise UsageError(
            f"{who} cannot be profiled: it was given {given} and raised {type(error).__name__}: "
            f"{first[0]}"
        ) from error
