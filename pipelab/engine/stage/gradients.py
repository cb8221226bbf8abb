"""Gradients at the borders of a stage: which tensors can have one, and what stands for none."""

import torch
from torch.autograd.graph import GradientEdge

from ..job.values import Value


def can_have_gradient(tensor: torch.Tensor) -> bool:
    """Whether a gradient travels back: masks and integers travel forward only."""
    return tensor.is_floating_point() or tensor.is_complex()


def ask_for_gradients(stage: int, value: Value) -> None:
    """Let a stage's inputs have gradients. Raises TypeError where none of them can."""
    able = [t for t in value if can_have_gradient(t)]
    if not able:
        kinds = ", ".join(str(t.dtype) for t in value)
        raise TypeError(
            f"stage {stage} received nothing but {kinds}, which carries no gradient back; "
            "let the stage before return a tensor of floating-point numbers too"
        )
    for tensor in able:
        tensor.requires_grad_()


def run_backward(roots: list[GradientEdge | None], gradient: Value | None) -> None:
    """Backward from the outputs that have a graph; without gradients, from the loss."""
    if gradient is None:
        if roots[0] is not None:
            torch.autograd.backward(roots[0])
        return
    pairs = [(root, g) for root, g in zip(roots, gradient, strict=True) if root and g.numel()]
    if len(pairs) == 1:
        torch.autograd.backward(*pairs[0])
    elif pairs:
        torch.autograd.backward([root for root, _ in pairs], [g for _, g in pairs])


def add_gradient(parameter: torch.Tensor, gradient: torch.Tensor) -> None:
    """Add to ``.grad``, as autograd does: a sparse one may have a dense one added to it."""
    if parameter.grad is None:
        parameter.grad = gradient
    elif parameter.grad.is_sparse and not gradient.is_sparse:
        parameter.grad = gradient + parameter.grad
    else:
        parameter.grad += gradient


def input_gradients(value: Value) -> Value:
    """The gradients of the inputs that can have one; nothing for an input that nothing used.

    Zeros would not do: plain torch leaves the gradients behind such an input None, and an optimizer
    with weight decay tells the two apart.
    """
    able = [t for t in value if t.requires_grad]
    return type(value)(_nothing_like(t) if t.grad is None else t.grad for t in able)


def _nothing_like(tensor: torch.Tensor) -> torch.Tensor:
    """Stands for a gradient that is None, on its way to another stage."""
    return tensor.new_empty(0)
