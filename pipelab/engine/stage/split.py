"""The backward in two parts: I now, W later.

    in one   B   dX = dY·W  and  W.grad += dYᵀ·X, layer by layer
    in two   I   dX = dY·W  for every layer; (X, dY) is kept of each
             W   W.grad += dYᵀ·X  for all that was kept

A layer inside a stage is split by what it is. ``SplitLinear`` is the lesson: the two products
above, written out. ``SplitLayer`` does it for any other layer of torch that has weights, one tensor
in and one out: the layer runs on an input cut off from the rest of the graph, so that its own
little graph can be asked twice. Weights of everything else (modules that own raw parameters,
several inputs, sparse gradients) get their gradient in I as ever: deferring them only saves time;
it is never required.

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

from .saved_bytes import SavedBytes

Gradients = Iterable[tuple[torch.Tensor, torch.Tensor]]
"""(parameter, its gradient)"""


@dataclass(slots=True)
class Deferred:
    """Weight gradients that W will compute.

    saved: (address, bytes) of the activations it needs; None: not counted.
    """

    compute: Callable[[], Gradients]
    gradient: torch.Tensor
    saved: list[tuple[int, int]] | None


class DeferredGradients:
    """Where the layers of a rank put off the gradients of their weights.

    queue: the list that the backward under way fills; counter: counts saved bytes while a forward
    is counted, else None.
    """

    def __init__(self) -> None:
        self.queue: list[Deferred] = []
        self.counter: SavedBytes | None = None

    def defer(self, layer: nn.Module) -> None:
        """Let the layers of torch inside ``layer`` put off the gradients of their weights.

        Safe to call twice.
        """
        for module in layer.modules():
            if _is_splittable(module) and "forward" not in vars(module):
                module.forward = partial(self._forward, module, module.forward)

    def add(self, queue: list[Deferred]) -> None:
        """W: compute what was deferred and add it to ``.grad``."""
        sums: dict[torch.Tensor, torch.Tensor] = {}
        with torch.no_grad():
            for deferred in queue:
                for parameter, gradient in deferred.compute():
                    sums[parameter] = sums[parameter] + gradient if parameter in sums else gradient
            for parameter, gradient in sums.items():
                if parameter.grad is not None:
                    parameter.grad += gradient
                elif gradient.is_contiguous() and not gradient._is_view():
                    parameter.grad = gradient
                else:
                    parameter.grad = gradient.clone(memory_format=torch.contiguous_format)

    def _forward(self, module: nn.Module, forward: Callable, *arguments, **named) -> torch.Tensor:
        weights = [p for p in module._parameters.values() if p is not None and p.requires_grad]
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
            return SplitLinear.apply(self, x, module.weight, module.bias)
        before = len(self.counter.log) if self.counter else 0
        inner = x.detach().requires_grad_(x.requires_grad)
        y = forward(inner)
        if not y.requires_grad:
            return y
        saved = self.counter.log[before:] if self.counter else None
        return SplitLayer.apply(
            self, _Call(inner, get_gradient_edge(y), saved), y.detach(), x, *weights
        )


def _is_splittable(module: nn.Module) -> bool:
    """Whether a module is a layer of torch itself, made of nothing but its own weights.

    It takes one tensor, returns one, and keeps no state in between.
    """
    return (
        type(module).__module__.startswith("torch.nn.modules.")
        and not module._modules
        and not isinstance(module, nn.RNNBase)
        and not getattr(module, "sparse", False)
        and any(p is not None for p in module._parameters.values())
    )


class SplitLinear(torch.autograd.Function):
    """y = x·Wᵀ + b, whose backward returns dX and puts off dW and db.

    Shapes: x (…, inputs), y (…, outputs).
    """

    @staticmethod
    def forward(
        ctx,
        store: DeferredGradients,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
    ):
        """Compute y, and keep what both parts of the backward need."""
        ctx.store, ctx.parameters = store, (weight, bias)
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
                yield weight, rows.t() @ flat
            if bias is not None and bias.requires_grad:
                yield bias, rows.sum(0)

        address = x.untyped_storage()
        ctx.store.queue.append(
            Deferred(weight_gradients, gradient, [(address.data_ptr(), address.nbytes())])
        )
        return None, (rows @ values).view(x.shape) if ctx.needs_input_grad[1] else None, None, None


@dataclass(slots=True)
class _Call:
    """One call of a layer.

    x: its input, cut off from the graph around. y: where its output is made. saved: what it saved.
    """

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

        ctx.store.queue.append(Deferred(weight_gradients, gradient, call.saved))
        return None, None, None, dx, *[None] * len(weights)


def kept_bytes(queue: list[Deferred]) -> tuple[int, int]:
    """Bytes that W still needs: of activations, and of output gradients.

    Each address counts once.
    """
    activations = {address: size for deferred in queue for address, size in deferred.saved or ()}
    storages = [deferred.gradient.untyped_storage() for deferred in queue]
    gradients = {s.data_ptr(): s.nbytes() for s in storages if s.data_ptr() not in activations}
    return sum(activations.values()), sum(gradients.values())
