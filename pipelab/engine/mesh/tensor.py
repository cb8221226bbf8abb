"""Layers that several workers compute together, each with a part of the weights.

    column ▸ row       x ─copy─▸ X·A₁ ▸ f ▸ ·B₁ ─╮
                       x ─copy─▸ X·A₂ ▸ f ▸ ·B₂ ─┴─sum─▸ y

The modules stay what they are, with smaller weights; what passes between the workers happens round
their forward. So a backward that is split has all of it in I, and W stays alone.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional

from .collectives import Collectives, Ways
from .cuts import TensorPlan

SEQUENCE = 1
"""The dimension of a sequence: (batch, sequence, hidden)."""


def cut_layers(
    layers: list[tuple[int, str, nn.Module]],
    plan: TensorPlan,
    together: Collectives,
    *,
    sequence: bool,
) -> list[nn.Parameter]:
    """Leave a worker its part of each layer that the plan names.

    sequence: what lies between them is cut along the sequence. Returns the parameters that see only
    a part of it: their gradients are summands.
    """
    ways, cut, partial_ones = Ways(together), _Cutter(plan, together), []
    for _, layer, module in layers:
        for name, each in list(module.named_modules(prefix=layer)):
            kind = plan.modules.get(name)
            if kind is None:
                continue
            cut.parameters(name, each)
            _HOW[kind.partition(":")[0]](each, ways, together, sequence=sequence)
            if kind == "sequence":
                partial_ones += list(each.parameters())
    return partial_ones


class _Cutter:
    """Replaces parameters by their parts; one that two modules share stays shared."""

    def __init__(self, plan: TensorPlan, together: Collectives):
        self._plan, self._together = plan, together
        self._made: dict[nn.Parameter, nn.Parameter] = {}

    def parameters(self, name: str, module: nn.Module) -> None:
        """Those of one module."""
        for own, parameter in list(module._parameters.items()):
            cut = self._plan.cuts.get(f"{name}.{own}")
            if parameter is None or cut is None:
                continue
            if parameter not in self._made:
                part = cut.of(parameter.detach(), self._together.size, self._together.index)
                part = part.clone(memory_format=torch.contiguous_format)
                self._made[parameter] = nn.Parameter(part, parameter.requires_grad)
            module.register_parameter(own, self._made[parameter])


def _column(module: nn.Module, ways: Ways, together: Collectives, *, sequence: bool) -> None:
    if isinstance(module, nn.Dropout):
        vars(module)["forward"] = partial(_dropout, module, together, -1)
        return
    assert isinstance(module, nn.Linear)
    module.out_features = len(module.weight)
    _before(module, partial(ways.gather_for_parts, dim=SEQUENCE) if sequence else ways.copy)


def _row(module: nn.Module, ways: Ways, together: Collectives, *, sequence: bool) -> None:
    assert isinstance(module, nn.Linear)
    module.in_features = module.weight.shape[1]
    if together.index:  # the sum has the bias once
        module.register_parameter("bias", None)
    _behind(module, partial(ways.sum_and_scatter, dim=SEQUENCE) if sequence else ways.sum)


def _vocabulary(module: nn.Module, ways: Ways, together: Collectives, *, sequence: bool) -> None:
    if isinstance(module, nn.Embedding):
        first = together.index * len(module.weight)
        module.num_embeddings = len(module.weight)
        vars(module)["forward"] = partial(_embed, module, ways, first)
        return
    _column(module, ways, together, sequence=sequence)
    _behind(module, partial(ways.gather, dim=-1))


def _sequence(module: nn.Module, _: Ways, together: Collectives, *, sequence: bool) -> None:
    if sequence and isinstance(module, nn.Dropout):
        vars(module)["forward"] = partial(_dropout, module, together, SEQUENCE)


def _scatter(module: nn.Module, ways: Ways, _: Collectives, *, sequence: bool) -> None:
    if sequence:
        _behind(module, partial(ways.scatter, dim=SEQUENCE))


_HOW = {
    "column": _column,
    "row": _row,
    "vocabulary": _vocabulary,
    "sequence": _sequence,
    "scatter": _scatter,
}


def _before(module: nn.Module, way) -> None:
    module.register_forward_pre_hook(lambda _, arguments: (way(arguments[0]), *arguments[1:]))


def _behind(module: nn.Module, way) -> None:
    module.register_forward_hook(lambda _module, _arguments, output: way(output))


def _embed(module: nn.Embedding, ways: Ways, first: int, words: torch.Tensor) -> torch.Tensor:
    """The vectors of the words that this worker has, zeros for the others; and their sum."""
    local = words - first
    elsewhere = (local < 0) | (local >= len(module.weight))
    padding = module.padding_idx
    if padding is not None:
        padding -= first
        padding = padding if 0 <= padding < len(module.weight) else None
    vectors = functional.embedding(local.masked_fill(elsewhere, 0), module.weight, padding)
    return ways.sum(vectors.masked_fill(elsewhere[..., None], 0))


def _dropout(module: nn.Dropout, together: Collectives, dim: int, x: torch.Tensor) -> torch.Tensor:
    """Draw for all of it, as the whole layer would, and take this worker's part."""
    if not module.training or not module.p:
        return x
    shape = list(x.shape)
    shape[dim] *= together.size
    drawn = functional.dropout(x.new_ones(shape), module.p)
    return x * drawn.tensor_split(together.size, dim)[together.index]
