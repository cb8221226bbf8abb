"""Which layers can put off the gradients of their weights, and how it is seen that one cannot."""

from collections.abc import Iterable, Iterator

import torch
from torch import nn


class DifferentiatesInForward(RuntimeError):
    """A backward ran through a layer while a forward was under way."""

    def __init__(self, module: nn.Module):
        super().__init__(
            f"a gradient was taken through {type(module).__name__} inside a forward, where the "
            "first micro-batch took none: a schedule that splits the backward needs layers that "
            "do the same every time. Use a schedule without W."
        )
        self.module = module


def has_hooks(weight: nn.Parameter) -> bool:
    """Whether something looks at, or changes, a gradient before it is added to ``.grad``."""
    return bool(weight._backward_hooks or weight._post_accumulate_grad_hooks)


def is_splittable(module: nn.Module) -> bool:
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


def weights_behind(
    outputs: Iterable[torch.Tensor], split: tuple[type, ...]
) -> Iterator[nn.Parameter]:
    """The weights that the graph behind some outputs uses, but for those of nodes of ``split``."""
    nodes = [tensor.grad_fn for tensor in outputs if tensor.grad_fn is not None]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        for following, _ in node.next_functions:
            if following is None:
                continue
            weight = getattr(following, "variable", None)
            if weight is not None and not isinstance(node, split):
                yield weight
            if following not in seen:
                seen.add(following)
                nodes.append(following)
