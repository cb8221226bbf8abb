"""The backward in two parts: I now, W later.

    in one   B   dX = dY·W  and  W.grad += dYᵀ·X, layer by layer
    in two   I   dX = dY·W  for every layer; (X, dY) is kept of each
             W   W.grad += dYᵀ·X  for all that was kept

A layer inside a stage is split by what it is. ``SplitLinear`` is the lesson: the two products
above, written out. ``SplitLayer`` does it for any other layer of torch that has weights, one tensor
in and one out: the layer runs on an input cut off from the rest of the graph, so that its own
little graph can be asked twice.

All other weights get their gradient in I as ever; deferring them only saves time, and is never
required: those of modules that own raw parameters or take several inputs, sparse ones, weights with
hooks, weights that are used beside their layer, and layers that differentiate inside a forward.

Within a micro-batch gradients of one parameter are summed first and added to ``.grad`` then, as
autograd does, so that the result is the full backward's to the bit.

Source: zero bubble, arXiv 2401.10241 §2; the store of closures as in the published code of
DualPipe.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional

from .deferred import Deferred, Gradients
from .gradients import add_gradient
from .saved_bytes import SavedBytes
from .splittable import DifferentiatesInForward, has_hooks, is_splittable, weights_behind


class DeferredGradients:
    """Where the layers of a rank put off the gradients of their weights.

    queue: the list that the backward under way fills, None while none is; counter: counts saved
    bytes while a forward is counted, else None.
    """

    def __init__(self) -> None:
        self.queue: list[Deferred] | None = None
        self.counter: SavedBytes | None = None
        self._whole: set[nn.Module] = set()
        """Layers of torch that are left to I."""
        self._owner: dict[nn.Parameter, nn.Module] = {}
        self._around: dict[nn.Module, nn.Module] = {}
        """Layer of torch -> the layer of the model that it is in."""

    def defer(self, layer: nn.Module) -> None:
        """Let the layers of torch inside ``layer`` put off the gradients of their weights.

        Safe to call twice.
        """
        for module in layer.modules():
            if is_splittable(module) and "forward" not in vars(module):
                module.forward = partial(self._forward, module, module.forward)
                self._around[module] = layer
                self._owner |= dict.fromkeys(module.parameters(recurse=False), module)

    def put_off(self, module: nn.Module, deferred: Deferred) -> None:
        """Note what W will compute.

        Raises DifferentiatesInForward where no backward is under way.
        """
        if self.queue is None:
            raise DifferentiatesInForward(module)
        self.queue.append(deferred)

    def leave_to_i(self, modules: Iterable[nn.Module]) -> None:
        """From now on, these layers of torch are not split."""
        self._whole.update(modules)

    def beside(self, module: nn.Module) -> list[nn.Module]:
        """The layers of torch inside the same layer of the model."""
        around = self._around[module]
        return [each for each, layer in self._around.items() if layer is around]

    def used_elsewhere(self, outputs: Iterable[torch.Tensor]) -> list[nn.Module]:
        """Layers whose weights the graph behind some outputs uses beside the layer itself.

        W would add such gradients up in another order than a full backward.
        """
        split = SplitLinear._backward_cls, SplitLayer._backward_cls
        found = [self._owner[w] for w in weights_behind(outputs, split) if w in self._owner]
        return [module for module in dict.fromkeys(found) if module not in self._whole]

    def add(self, queue: list[Deferred]) -> None:
        """W: compute what was deferred and add it to ``.grad``."""
        sums: dict[torch.Tensor, torch.Tensor] = {}
        with torch.no_grad():
            for deferred in queue:
                for parameter, gradient in deferred.compute():
                    sums[parameter] = sums[parameter] + gradient if parameter in sums else gradient
            for parameter, gradient in sums.items():
                if parameter.grad is None and not _is_whole(gradient):
                    gradient = gradient.clone(memory_format=torch.contiguous_format)
                add_gradient(parameter, gradient)

    def _forward(self, module: nn.Module, forward: Callable, *arguments, **named) -> torch.Tensor:
        weights = [p for p in module._parameters.values() if p is not None and p.requires_grad]
        if module in self._whole or any(map(has_hooks, weights)):
            return forward(*arguments, **named)
        if len(arguments) != 1 or named or not weights or not torch.is_grad_enabled():
            return forward(*arguments, **named)
        (x,) = arguments
        half = torch.is_autocast_enabled(x.device.type)
        if (
            type(module) is nn.Linear
            and x.dim() > 1
            and x.is_contiguous()
            and not half
            and module.weight.is_leaf
        ):
            return SplitLinear.apply(self, module, x, module.weight, module.bias)
        before = len(self.counter.log) if self.counter else 0
        inner = x.detach().requires_grad_(x.requires_grad)
        y = forward(inner)
        if not y.requires_grad:
            return y
        saved = self.counter.log[before:] if self.counter else None
        return SplitLayer.apply(
            self, _Call(module, inner, get_gradient_edge(y), saved), y.detach(), x, *weights
        )


class SplitLinear(torch.autograd.Function):
    """y = x·Wᵀ + b, whose backward returns dX and puts off dW and db.

    Shapes: x (…, inputs), y (…, outputs).
    """

    @staticmethod
    def forward(
        ctx,
        store: DeferredGradients,
        module: nn.Module,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
    ):
        """Compute y, and keep what both parts of the backward need."""
        ctx.store, ctx.module, ctx.parameters = store, module, (weight, bias)
        ctx.save_for_backward(x, weight)
        y = functional.linear(x, weight, bias)
        # torch makes a view of more than two dimensions, on which no x.relu_() is possible then.
        return torch.ops.aten._unsafe_view(y, y.shape)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        """Compute dX, and put dW and db off."""
        (x, values), (weight, bias) = ctx.saved_tensors, ctx.parameters
        rows, flat = gradient.reshape(-1, gradient.shape[-1]), x.reshape(-1, x.shape[-1])

        def weight_gradients() -> Gradients:
            if weight.requires_grad:
                yield weight, rows.t() @ flat.conj()
            if bias is not None and bias.requires_grad:
                yield bias, rows.sum(0)

        storage = x.untyped_storage()
        saved = [(storage.data_ptr(), storage.nbytes())]
        ctx.store.put_off(ctx.module, Deferred(weight_gradients, gradient, saved))
        dx = (rows @ values.conj()).view(x.shape) if ctx.needs_input_grad[2] else None
        return None, None, dx, None, None


@dataclass(slots=True)
class _Call:
    """One call of a layer.

    module: the layer. x: its input, cut off from the graph around. y: where its output is made.
    saved: what it saved.
    """

    module: nn.Module
    x: torch.Tensor
    y: GradientEdge
    saved: list[tuple[int, int]] | None


class SplitLayer(torch.autograd.Function):
    """Stands in the graph for a call that has run already.

    The weights are arguments so that the output has a gradient even where the input has none: on
    the first stage, I runs through its layers too.
    """

    @staticmethod
    def forward(
        ctx,
        store: DeferredGradients,
        call: _Call,
        y: torch.Tensor,
        x: torch.Tensor,  # noqa: ARG004 - so that its gradient is asked for
        *weights: torch.Tensor,
    ):
        """Hand on what the call has returned."""
        ctx.store, ctx.call, ctx.weights = store, call, weights
        return torch.ops.aten._unsafe_view(y, y.shape)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        """Compute dX, and put the gradients of the weights off."""
        call, weights, dx = ctx.call, ctx.weights, None
        if call.x.requires_grad:
            (dx,) = torch.autograd.grad(
                call.y, call.x, gradient, retain_graph=True, allow_unused=True
            )

        def weight_gradients() -> Gradients:
            found = torch.autograd.grad(call.y, weights, gradient, allow_unused=True)
            return [(p, g) for p, g in zip(weights, found, strict=True) if g is not None]

        ctx.store.put_off(call.module, Deferred(weight_gradients, gradient, call.saved))
        return None, None, None, dx, *[None] * len(weights)


def _is_whole(gradient: torch.Tensor) -> bool:
    """Whether it can be a ``.grad`` as it is."""
    return gradient.is_contiguous() and not gradient._is_view()
