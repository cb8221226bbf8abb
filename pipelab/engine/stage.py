"""One stage of the model on its rank: forward, backward, and what it keeps in between.

F  inputs ─▶ layers ─▶ outputs        keeps the inputs and what autograd saved
R  the same once more                 where F kept only the inputs
B  gradients of the outputs ─▶ gradients of the inputs, and of the weights
I, W  the same in two parts (split.py)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from .layers import Seeds, Value, run_layers, weighted_loss
from .saved_bytes import SavedBytes
from .split import Deferred, WeightGradients, kept_bytes
from .stash import Stash


@dataclass(slots=True)
class InFlight:
    """What a stage keeps of a micro-batch from F to its last backward action. The outputs
    themselves are gone: only their places in the graph are kept, one per output that can have a
    gradient (None: it has none).

    roots is None while only the inputs are kept; task: (seeds, target, weight), to run the layers
    again.
    """

    value: Value
    inputs: tuple[torch.Tensor, ...]
    task: tuple
    version: int
    roots: list[GradientEdge | None] | None = None
    bytes: int = 0
    buffers: list[torch.Tensor] | None = None
    deferred: list[Deferred] | None = None


class Stage:
    """A consecutive part of one copy of the model.

    layers: (index in the whole model, module) in order. loss: on the last stage, (output, target)
    -> mean; else None. weights: where the gradients of weights are deferred, on a rank that splits
    its backwards. stash: where the weights have versions. half: compute in bfloat16 where autocast
    does. Raises TypeError when a layer returns anything but tensors.
    """

    def __init__(
        self,
        index: int,
        layers: list[tuple[int, nn.Module]],
        loss: Callable | None,
        weights: WeightGradients | None = None,
        stash: Stash | None = None,
        half: bool = False,
    ):
        self.index, self.layers, self.loss = index, layers, loss
        self._weights, self._stash, self._half = weights, stash, half
        self._in_flight: dict[int, InFlight] = {}
        modules = list(dict.fromkeys(m for _, layer in layers for m in layer.modules()))
        self._buffers = [
            (m, name) for m in modules for name, buffer in m._buffers.items() if buffer is not None
        ]
        self._own = {
            t.untyped_storage().data_ptr()
            for _, layer in layers
            for t in (*layer.parameters(), *layer.buffers())
        }
        self._in_place = any(getattr(module, "inplace", False) for module in modules)
        self._known: dict[tuple, int] = {}
        self.version = 0
        """Of the weights that the last action used."""

    def begin(self) -> None:
        """A training step begins: versions of the weights count from 0 again."""
        self.version = 0
        if self._stash is not None:
            self._stash.begin()

    def stepped(self, version: int) -> None:
        """The optimizer has stepped the weights, which makes this version of them."""
        self.version = version if self._stash is None else self._stash.stepped()

    def forward(
        self,
        microbatch: int,
        value: Value,
        seeds: Seeds,
        target: Value | None,
        weight: float,
        *,
        recomputed: bool = False,
        version: int = 0,
    ) -> tuple[Value, int]:
        """Runs the layers. Returns the output, or on the last stage the weighted loss, and the
        bytes it keeps.

        recomputed: keep only the inputs. version: of the weights, where they are stashed.
        """
        inputs = (value,) if isinstance(value, torch.Tensor) else value
        if self.index:
            _ask_for_gradients(self.index, inputs)
        kept = InFlight(value, inputs, (seeds, target, weight), version)
        if self._stash is not None:
            self._stash.hold(version)
        if not recomputed:
            output, kept.bytes = self._remember(microbatch, kept)
        # what the layers count, such as BatchNorm's statistics, stands as it did when R runs them
        # again
        else:
            kept.buffers = [module._buffers[name].clone() for module, name in self._buffers]
            before = [t._version for t in inputs]
            with torch.no_grad():
                output = self._compute(microbatch, kept)
            if [t._version for t in inputs] != before:
                raise RuntimeError(
                    f"a layer of stage {self.index} changes its input in place, so the stage "
                    "cannot run again from it: let the layer work on a copy, or do not recompute"
                )
            kept.bytes = sum(
                {
                    t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in inputs
                }.values()
            )
        self._in_flight[microbatch] = kept
        return output.detach() if isinstance(output, torch.Tensor) else tuple(
            t.detach() for t in output
        ), kept.bytes

    def recompute(self, microbatch: int) -> int:
        """Runs a forward again, with the same random numbers and buffers.

        Returns the bytes kept in addition.
        """
        kept = self._in_flight[microbatch]
        now = [module._buffers[name] for module, name in self._buffers]
        self._set_buffers(kept.buffers)
        try:
            _, total = self._remember(microbatch, kept)
        finally:
            self._set_buffers(now)
        more, kept.bytes, kept.buffers = total - kept.bytes, total, None
        return more

    def backward(
        self, microbatch: int, gradient: Value | None, *, split: bool = False
    ) -> tuple[Value | None, int, int]:
        """The gradient of the inputs, and of the weights: added to ``.grad``, or with ``split``
        deferred to their W.

        gradient: of the outputs that can have one; None on the last stage. Returns the gradients of
        the inputs in the same form (None on the first stage), the bytes that are kept in addition,
        and those that are free now.
        """
        kept, more = self._in_flight[microbatch], 0
        if kept.roots is None:
            more = self.recompute(microbatch)
        if self._weights is not None:
            self._weights.queue = kept.deferred = []
        if gradient is None or isinstance(gradient, torch.Tensor):
            if kept.roots[0] is not None:
                torch.autograd.backward(kept.roots[0], gradient)
        else:
            pairs = [pair for pair in zip(kept.roots, gradient, strict=True) if pair[0] is not None]
            if pairs:
                torch.autograd.backward(*zip(*pairs, strict=True))
        self.version, freed, dx = kept.version, kept.bytes, None
        if self.index:
            # An input that the stage does not use has no gradient: zeros stand for it.
            dx = [
                torch.zeros_like(t) if t.grad is None else t.grad
                for t in kept.inputs
                if t.requires_grad
            ]
            dx = dx[0] if isinstance(kept.value, torch.Tensor) else tuple(dx)
        if split:
            freed, added = self._keep_for_weights(microbatch, kept)
            more += added
        else:
            self._finish(microbatch)
        return dx, more, freed

    def weight_gradient(self, microbatch: int) -> int:
        """Adds the gradients that I deferred to ``.grad``. Returns the bytes that are free now."""
        kept = self._finish(microbatch)
        self.version = kept.version
        return kept.bytes

    def infer(
        self, microbatch: int, value: Value, seeds: Seeds, target: Value | None, weight: float
    ) -> tuple[Value, Value]:
        """Runs the layers and keeps nothing.

        Returns what ``forward`` does, and what the last layer returned.
        """
        with torch.no_grad():
            return self._through(microbatch, value, seeds, target, weight)

    def _finish(self, microbatch: int) -> InFlight:
        kept = self._in_flight.pop(microbatch)
        if kept.deferred:
            self._weights.add(kept.deferred)
        if self._stash is not None:
            self._stash.collect(kept.version)
        return kept

    def _remember(self, microbatch: int, kept: InFlight) -> tuple[Value, int]:
        """Runs the layers with the graph for the backward. Returns the output and the bytes saved.

        The bytes are counted the first time that a micro-batch passes in these shapes, and known
        from then on.
        """
        key = microbatch, _shape(kept.value)
        saved = self._known.get(key)
        if saved is None:
            with SavedBytes(
                self._own | (self._stash.memory() if self._stash else set())
            ) as counter:
                if self._weights is not None:
                    self._weights.counter = counter
                output = self._compute(microbatch, kept)
            if self._weights is not None:
                self._weights.counter = None
            saved = self._known[key] = counter.total
        else:
            output = self._compute(microbatch, kept)
        if isinstance(output, torch.Tensor):
            kept.roots = [get_gradient_edge(output) if output.requires_grad else None]
        else:
            kept.roots = [
                get_gradient_edge(t) if t.requires_grad else None
                for t in output
                if can_have_gradient(t)
            ]
        return output, saved

    def _compute(self, microbatch: int, kept: InFlight) -> Value:
        seeds, target, weight = kept.task
        self.version = kept.version
        if self._stash is not None:
            self._stash.use(kept.version)
        return self._through(microbatch, kept.value, seeds, target, weight)[0]

    def _through(
        self, microbatch: int, value: Value, seeds: Seeds, target: Value | None, weight: float
    ) -> tuple[Value, Value]:
        """What the stage gives (the loss, or the output), and what its last layer returned."""
        if self._in_place:  # what came from another stage, or from the batch, is not ours to change
            value = (
                value.clone()
                if isinstance(value, torch.Tensor)
                else tuple(t.clone() for t in value)
            )
        if self._half:
            with torch.autocast(
                (value if isinstance(value, torch.Tensor) else value[0]).device.type, torch.bfloat16
            ):
                output = run_layers(self.layers, value, seeds, microbatch)
                return (
                    output
                    if self.loss is None
                    else weighted_loss(self.loss, output, target, weight)
                ), output
        output = run_layers(self.layers, value, seeds, microbatch)
        return (
            output if self.loss is None else weighted_loss(self.loss, output, target, weight)
        ), output

    def _keep_for_weights(self, microbatch: int, kept: InFlight) -> tuple[int, int]:
        """After I: lets go of all but what W needs.

        Returns the bytes freed, and those of the gradients kept for W.
        """
        key = microbatch, _shape(kept.value), "W"
        if key not in self._known:
            self._known[key] = kept_bytes(kept.deferred)
        activations, gradients = self._known[key]
        freed = kept.bytes - activations
        kept.bytes, kept.roots, kept.value, kept.inputs, kept.task = (
            activations + gradients,
            None,
            None,
            None,
            None,
        )
        return freed, gradients

    def _set_buffers(self, buffers: list[torch.Tensor]) -> None:
        for (module, name), buffer in zip(self._buffers, buffers, strict=True):
            module._buffers[name] = buffer


def _shape(value: Value) -> tuple:
    return value.shape if isinstance(value, torch.Tensor) else tuple(t.shape for t in value)


def can_have_gradient(tensor: torch.Tensor) -> bool:
    """Masks and integers travel forward only."""
    return tensor.is_floating_point() or tensor.is_complex()


def _ask_for_gradients(stage: int, inputs: tuple[torch.Tensor, ...]) -> None:
    able = [t for t in inputs if can_have_gradient(t)]
    if not able:
        kinds = ", ".join(str(t.dtype) for t in inputs)
        raise TypeError(
            f"stage {stage} received nothing but {kinds}, which carries no gradient back; "
            "let the stage before return a tensor of floating-point numbers too"
        )
    for tensor in able:
        tensor.requires_grad_()
