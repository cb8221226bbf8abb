"""One stage of the model on its rank: forward, backward, and what it keeps in between.

F  inputs ─▶ layers ─▶ outputs        keeps the inputs and what autograd saved
R  the same once more                 where F kept only the inputs
B  gradients of the outputs ─▶ gradients of the inputs, and of the weights
I, W  the same in two parts (split.py)
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

from ..job.values import Alone, Value
from .deferred import Deferred, kept_bytes
from .gradients import ask_for_gradients, can_have_gradient, input_gradients, run_backward
from .kept import Kept, Task, WaitingForW, shape_of
from .layers import run_layers, weighted_loss
from .loss_checks import LossCheck
from .saved_bytes import SavedBytes, storages
from .split import DeferredGradients
from .splittable import DifferentiatesInForward
from .stash import Stash


class Stage:
    """A consecutive part of one copy of the model.

    Args:
        index: the number of the stage.
        layers: (index in the whole model, module) in order.
        loss: on the last stage, (output, target) -> mean; else None.
        deferred: where the gradients of weights are put off, on a rank that splits its backwards.
        stash: where the weights have versions.
        half: compute in bfloat16 where autocast does.

    Raises:
        TypeError: a layer returns anything but tensors.
    """

    def __init__(
        self,
        index: int,
        layers: list[tuple[int, nn.Module]],
        loss: Callable | None,
        deferred: DeferredGradients | None = None,
        stash: Stash | None = None,
        *,
        half: bool = False,
    ):
        self.index, self.layers, self.loss = index, layers, loss
        self._deferred, self._stash, self._half = deferred, stash, half
        self._kept: dict[int, Kept] = {}
        self._waiting: dict[int, WaitingForW] = {}
        modules = list(dict.fromkeys(m for _, layer in layers for m in layer.modules()))
        self._buffers: list[tuple[nn.Module, str]] = []
        self._tensors: list[torch.Tensor] = []
        for module in modules:
            held = {name: buffer for name, buffer in module._buffers.items() if buffer is not None}
            self._buffers += [(module, name) for name in held]
            self._tensors += [*module.parameters(recurse=False), *held.values()]
        self.weights_moved()
        trains = index > 0 or any(p.requires_grad for m in modules for p in m.parameters())
        self._loss_check = LossCheck(index, trains=trains)
        self._in_place = any(getattr(module, "inplace", False) for module in modules)
        self._looked_at: set[int] = set()  # micro-batches that have passed once
        self._known_bytes: dict[tuple, int] = {}
        self._known_for_w: dict[tuple, tuple[int, int]] = {}
        self.version = 0  # of the weights that the last action used

    def weights_moved(self) -> None:
        """Weights and buffers may lie elsewhere now: what lies there is no activation."""
        self._own = set(storages(self._tensors))

    def begin(self) -> None:
        """A training step begins: versions of the weights count from 0 again."""
        self.version = 0
        if self._stash is not None:
            self._stash.begin()

    def end(self) -> None:
        """The run is over: the layers hold their live weights."""
        if self._stash is not None:
            self._stash.use_live()

    @property
    def version_bytes(self) -> int:
        """The most bytes that versions of the weights have taken."""
        return 0 if self._stash is None else self._stash.most_bytes

    def stepped(self, version: int) -> None:
        """The optimizer has stepped the weights, which makes this version of them."""
        self.version = version if self._stash is None else self._stash.stepped()

    def forward(
        self,
        microbatch: int,
        value: Value,
        task: Task,
        *,
        recomputed: bool = False,
        version: int = 0,
    ) -> tuple[Value, int]:
        """Run the layers.

        Args:
            microbatch: which one.
            value: the inputs.
            task: what it needs beside them.
            recomputed: keep only the inputs.
            version: of the weights, where they are stashed.

        Returns:
            The output, or on the last stage the weighted loss; and the bytes that are kept.
        """
        if self.index:
            ask_for_gradients(self.index, value)
        kept = Kept(value, task, version)
        if self._stash is not None:
            self._stash.hold(version)
        if recomputed:
            output = self._forget(microbatch, kept)
        else:
            output, kept.bytes = self._remember(microbatch, kept)
        self._kept[microbatch] = kept
        return output.each(torch.Tensor.detach), kept.bytes

    def recompute(self, microbatch: int) -> int:
        """Run a forward again, with the same random numbers and buffers.

        Returns the bytes kept in addition.
        """
        kept = self._kept[microbatch]
        now = self._buffers_now()
        self._set_buffers(kept.buffers)
        try:
            _, total = self._remember(microbatch, kept)
        finally:
            self._set_buffers(now)
        more, kept.bytes, kept.buffers = total - kept.bytes, total, []
        return more

    def backward(
        self, microbatch: int, gradient: Value | None, *, split: bool = False
    ) -> tuple[Value | None, int, int]:
        """Compute the gradient of the inputs, and of the weights.

        Args:
            microbatch: which one.
            gradient: of the outputs that can have one; None on the last stage.
            split: put the gradients of the weights off until W; else they are added to ``.grad``.

        Returns:
            The gradients of the inputs in the same form (None on the first stage), the bytes that
            are kept in addition, and those that are free now.
        """
        kept, more = self._kept[microbatch], 0
        if kept.task.share == 0:  # 0 times nan would spoil the weights
            return self._skip_backward(microbatch, split=split)
        if kept.roots is None:
            more = self.recompute(microbatch)
        deferred: list[Deferred] = []
        if self._deferred is not None:
            self._deferred.queue = deferred
        try:
            run_backward(kept.roots or [], gradient)
        finally:
            if self._deferred is not None:
                self._deferred.queue = None
        self.version = kept.version
        result = input_gradients(kept.value) if self.index else None
        del self._kept[microbatch]
        if not split:
            self._finish(deferred, kept.version)
            return result, more, kept.bytes
        activations, gradients = self._bytes_for_w(microbatch, kept, deferred)
        self._waiting[microbatch] = WaitingForW(deferred, kept.version, activations + gradients)
        return result, more + gradients, kept.bytes - activations

    def _skip_backward(self, microbatch: int, *, split: bool) -> tuple[Value | None, int, int]:
        """``backward`` of a micro-batch that counts for nothing: zeros for the stage before."""
        kept = self._kept.pop(microbatch)
        self.version = kept.version
        result = input_gradients(kept.value) if self.index else None
        if split:
            self._waiting[microbatch] = WaitingForW([], kept.version, 0)
        else:
            self._finish([], kept.version)
        return result, 0, kept.bytes

    def weight_gradient(self, microbatch: int) -> int:
        """Add the gradients that I put off to ``.grad``. Returns the bytes that are free now."""
        waiting = self._waiting.pop(microbatch)
        self._finish(waiting.deferred, waiting.version)
        self.version = waiting.version
        return waiting.bytes

    def infer(self, microbatch: int, value: Value, task: Task) -> tuple[Value, Value]:
        """Run the layers and keep nothing.

        Returns what ``forward`` does, and what the last layer returned.
        """
        with torch.no_grad():
            return self._through(microbatch, value, task)

    def _finish(self, deferred: list[Deferred], version: int) -> None:
        """The micro-batch has all its gradients."""
        if self._deferred is not None and deferred:
            self._deferred.add(deferred)
        if self._stash is not None:
            self._stash.collect(version)

    def _forget(self, microbatch: int, kept: Kept) -> Value:
        """Run the layers and keep only the inputs, and what the layers count as it stood before."""
        kept.buffers = [buffer.clone() for buffer in self._buffers_now()]
        with torch.no_grad():
            output = self._compute(microbatch, kept)
        kept.bytes = sum(storages(kept.value).values())
        return output

    def _remember(self, microbatch: int, kept: Kept) -> tuple[Value, int]:
        """Run the layers with the graph for the backward. Returns the output and the bytes saved.

        The bytes are counted the first time that a micro-batch passes in these shapes, and known
        from then on.
        """
        key = microbatch, shape_of(kept.value)
        saved = self._known_bytes.get(key)
        if saved is None:
            output, saved = self._count(microbatch, kept)
            self._known_bytes[key] = saved
        else:
            output = self._compute(microbatch, kept)
        able = [t for t in output if output.alone or can_have_gradient(t)]
        kept.roots = [get_gradient_edge(t) if t.requires_grad else None for t in able]
        return output, saved

    def _count(self, microbatch: int, kept: Kept) -> tuple[Value, int]:
        """Run the layers and count the bytes that autograd saves.

        On a rank that splits its backwards they run again where a layer turns out to be one that
        cannot be split.
        """
        weights = self._weights()
        deferred = self._deferred
        if deferred is None:
            with SavedBytes(weights) as counter:
                output = self._compute(microbatch, kept)
            return output, counter.total
        before = [buffer.clone() for buffer in self._buffers_now()]
        while True:
            try:
                with SavedBytes(weights) as counter:
                    deferred.counter = counter
                    output = self._compute(microbatch, kept)
                astray = deferred.used_elsewhere(output)
            except DifferentiatesInForward as error:
                astray = deferred.beside(error.module)
            finally:
                deferred.counter = None
            if not astray:
                return output, counter.total
            deferred.leave_to_i(astray)
            self._set_buffers([buffer.clone() for buffer in before])

    def _compute(self, microbatch: int, kept: Kept) -> Value:
        self.version = kept.version
        if self._stash is not None:
            self._stash.use(kept.version)
        return self._through(microbatch, kept.value, kept.task)[0]

    def _through(self, microbatch: int, value: Value, task: Task) -> tuple[Value, Value]:
        """What the stage gives (the loss, or the output), and what its last layer returned."""
        # What came from another stage, or from the batch, is not ours to change: a copy is worked
        # on where a layer does, and the first time, to see whether one does.
        first = microbatch not in self._looked_at
        if first or self._in_place:
            value = value.each(torch.clone)
            if task.target is not None:
                task = task._replace(target=task.target.each(torch.clone))
        if self._half:
            with torch.autocast(value[0].device.type, torch.bfloat16):
                result = self._layers_and_loss(microbatch, value, task)
        else:
            result = self._layers_and_loss(microbatch, value, task)
        if first:
            self._in_place |= any(tensor._version for tensor in (*value, *(task.target or ())))
            self._looked_at.add(microbatch)
        return result

    def _layers_and_loss(self, microbatch: int, value: Value, task: Task) -> tuple[Value, Value]:
        output = run_layers(self.layers, value, task.seeds, microbatch)
        if self.loss is None or task.target is None:
            return output, output
        loss = weighted_loss(self.loss, output, task.target, task.share)
        if torch.is_grad_enabled() and task.share:
            self._loss_check.look(loss, output, self._weights, microbatch)
        return Alone((loss,)), output

    def _weights(self) -> set[int]:
        """The addresses of weights and buffers, in all their versions."""
        return self._own | (self._stash.memory() if self._stash else set())

    def _bytes_for_w(
        self, microbatch: int, kept: Kept, deferred: list[Deferred]
    ) -> tuple[int, int]:
        """Bytes of activations and of gradients that W still needs."""
        key = microbatch, shape_of(kept.value)
        if key not in self._known_for_w:
            self._known_for_w[key] = kept_bytes(deferred)
        return self._known_for_w[key]

    def _buffers_now(self) -> list[torch.Tensor]:
        buffers = (module._buffers[name] for module, name in self._buffers)
        return [buffer for buffer in buffers if buffer is not None]

    def _set_buffers(self, buffers: list[torch.Tensor]) -> None:
        for (module, name), buffer in zip(self._buffers, buffers, strict=True):
            module._buffers[name] = buffer
