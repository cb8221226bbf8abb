"""``profile``: what each layer of a model takes for one micro-batch, measured as a rank works.

    micro-batch ─▶ layer 0 ─▶ layer 1 ─▶ … ─▶ loss        F of each, and what it saves
                ◀─ I and W ◀─ I and W ◀─ … ◀─             I and W of each

It goes through whole first, as in most schedules: that gives the times of F and B = I + W. Then the
backwards are split, which says how B divides. (Split ones take a little longer altogether.)

It is here and not in ``model`` since a layer costs what the engine makes of it: its forward, its
backward in two parts and its count of saved bytes are those of the stages of a run.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

from ..errors import UsageError
from ..layout import LayerProfile, Profile
from ..model import split
from .job.batches import data_of
from .job.losses import check_loss
from .job.recipe import Recipe
from .job.values import Alone, Value, describe
from .job.where import Where
from .stage.gradients import ask_for_gradients, can_have_gradient, input_gradients, run_backward
from .stage.layers import run_layers, weighted_loss
from .stage.randomness import generator_of, put_back, shared_states
from .stage.saved_bytes import SavedBytes, storages
from .stage.split import Deferred, DeferredGradients, kept_bytes
from .stage.splittable import DifferentiatesInForward
from .transport import gpu
from .travel.ship import copied

WARM_UP = 2
"""Passes that are not timed: the first counts bytes, and torch sets up in both."""


def profile(
    model: nn.Sequential | Sequence[nn.Module],
    inputs: Any,
    targets: Any,
    loss_fn: Callable[..., torch.Tensor],
    *,
    microbatches: int = 1,
    device: str = "auto",
    repeats: int = 10,
    dtype: str = "float32",
) -> Profile:
    """Measure what each layer of a model, and the loss, take for one micro-batch.

    Everything runs in this process, on a copy of the model, with one thread on a processor, as a
    rank has it. ``forward``, ``input_grad`` and ``weight_grad`` are medians.

    Args:
        model: as for ``run``.
        inputs: as for ``run``; of a callable, the batch of step 0.
        targets: as for ``run``.
        loss_fn: as for ``run``.
        microbatches: into how many the batch is split; the first one is measured.
        device: "cpu", "cuda" or "auto", as for ``run``.
        repeats: how often the micro-batch goes through after two passes that warm up.
        dtype: as for ``run``; "bfloat16" measures under autocast.

    Returns:
        A Profile, for ``partition`` and for a file.

    Raises:
        UsageError: a layer that cannot be profiled, which it names, and what ``run`` refuses.

    >>> layers = [torch.nn.Linear(8, 8), torch.nn.ReLU()]
    >>> x = torch.randn(4, 8)
    >>> measured = profile(layers, x, x, torch.nn.functional.mse_loss, repeats=1)
    >>> [layer.activation_bytes for layer in measured.layers]  # its input; its output
    [128, 128]
    """
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise UsageError(f"repeats is {repeats!r}; it is a whole number, 1 or more.")
    check_loss(loss_fn)
    recipe = Recipe(dtype=dtype)
    on_gpu = Where.of(device, "auto", "pipelab").device == "cuda"
    where = gpu.device_of(0) if on_gpu else torch.device("cpu")
    named = [(n, m) for n, m in split(model, 1)[0]._modules.items() if m is not None]
    batch = data_of(inputs, targets, microbatches, None).batch(0).to(where)
    (modules, loss_fn) = copied(([module for _, module in named], loss_fn))
    for module in [*modules, *([loss_fn] if isinstance(loss_fn, nn.Module) else [])]:
        module.to(where)
    layers = [_Layer(i, module) for i, module in enumerate(modules)]
    layers.append(_Loss(len(layers), loss_fn, batch.targets_of(0).each(torch.clone)))
    passing = _Passing(layers, batch.inputs_of(0), where, half=recipe.dtype == "bfloat16")
    with _as_a_rank(where):
        passing.measure(repeats)
    *rows, loss = layers
    return Profile(
        device=where.type,
        dtype=_dtype(recipe, modules),
        microbatch=len(batch.inputs_of(0)[0]),
        layers=tuple(
            row.profile(f"{name} {type(module).__name__}")
            for row, (name, module) in zip(rows, named, strict=True)
        ),
        loss=loss.profile("loss"),
        input_bytes=sum(storages(batch.inputs_of(0)).values()),
    )


def _dtype(recipe: Recipe, modules: list[nn.Module]) -> str:
    """What is computed in: autocast's type, or that of the weights."""
    if recipe.dtype != "float32":
        return recipe.dtype
    types = [p.dtype for m in modules for p in m.parameters() if can_have_gradient(p)]
    return str(max(set(types), key=types.count, default=torch.float32)).removeprefix("torch.")


@contextmanager
def _as_a_rank(where: torch.device) -> Iterator[None]:
    """One thread and a backward on it, as a rank has; afterwards all is as it was."""
    threads, states = torch.get_num_threads(), (torch.get_rng_state(), shared_states())
    generator = generator_of(where)
    of_gpu = None if generator is None else generator.get_state()
    torch.set_num_threads(1)
    try:
        with torch.autograd.set_multithreading_enabled(False), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(states[0])
        put_back(states[1])
        if generator is not None and of_gpu is not None:
            generator.set_state(of_gpu)


@dataclass
class _Layer:
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
        return list(self.module.parameters())

    def run(self, value: Value) -> Value:
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


class _Loss(_Layer):
    """The loss, which comes last and has no weights."""

    def __init__(self, index: int, loss_fn: Callable, target: Value):
        super().__init__(index, nn.Identity())
        self._loss_fn, self._target = loss_fn, target

    def run(self, value: Value) -> Value:
        return Alone((weighted_loss(self._loss_fn, value, self._target, 1.0),))


class _Passing:
    """A micro-batch that goes through the layers one by one, forth and back.

    Between two layers the graph is cut, as it is between two stages, but the tensors stay the same:
    so it is seen which storage was saved before.
    """

    def __init__(self, layers: list[_Layer], value: Value, where: torch.device, *, half: bool):
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
        value, calls = self._value, []
        with torch.autocast(self._where.type, torch.bfloat16, enabled=self._half):
            for layer in self._layers:
                cut = value.each(torch.Tensor.detach)
                output, seconds = self._forward(layer, cut, counting=counting)
                calls.append((layer, cut, output, seconds))
                value = output
        if counting:
            self._count([(layer, cut, output) for layer, cut, output, _ in calls])
        gradient = None
        while calls:
            layer, cut, output, seconds = calls.pop()
            gradient, more = self._backward(layer, cut, output, gradient, counting=counting)
            layer.split.append((seconds, *more))
            for parameter in layer.parameters:
                parameter.grad = None

    def _forward(self, layer: _Layer, value: Value, *, counting: bool) -> tuple[Value, float]:
        with _naming(layer, value):
            if layer.index:
                ask_for_gradients(layer.index, value)
                value = value.each(_inner)
            else:
                value = value.each(torch.clone)
            if not counting:
                began = self._now()
                output = layer.run(value)
                return output, self._now() - began
            return self._counted(layer, value), 0.0

    def _counted(self, layer: _Layer, value: Value) -> Value:
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

    def _count(self, calls: list[tuple[_Layer, Value, Value]]) -> None:
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
        layer: _Layer,
        value: Value,
        output: Value,
        gradient: Value | None,
        *,
        counting: bool,
    ) -> tuple[Value, tuple[float, float]]:
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
        return result, (between - began, self._now() - resumed)

    def _now(self) -> float:
        """Seconds, when all that was asked for is done."""
        if self._where.type == "cuda":
            torch.cuda.synchronize(self._where)
        return time.perf_counter()


def _inner(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as something that was computed: in place, torch changes no leaf."""
    return torch.ops.aten._unsafe_view(tensor, tensor.shape)


@contextmanager
def _naming(layer: _Layer, value: Value) -> Iterator[None]:
    """Say which layer it was that could not be run, and what it was given."""
    try:
        yield
    except Exception as error:
        who = f"layer {layer.index} ({type(layer.module).__name__})"
        if isinstance(layer, _Loss):
            who = "the loss"
        given = ", ".join(map(describe, value))
        first = str(error).strip().splitlines()[:1] or [""]
        raise UsageError(
            f"{who} cannot be profiled: it was given {given} and raised {type(error).__name__}: "
            f"{first[0]}"
        ) from error
