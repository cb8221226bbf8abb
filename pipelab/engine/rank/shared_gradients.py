"""The gradients of shared parameters on their way to other ranks: one dense tensor, and back.

    layouts of all │ touched rows, values │ values │ touched rows, values │ …
                     sparse                 dense    sparse

A sparse gradient stays one, as with torch: an optimizer tells a row that was touched from one that
was not. So do absent gradients: nothing of them travels but their layout.
"""

import math
from typing import NamedTuple

import torch
from torch import nn

ABSENT, DENSE = 0, 1
"""Layouts; of a sparse gradient it is DENSE + its number of sparse dimensions."""


class Part(NamedTuple):
    """One holder's gradient of one parameter. touched: which rows of a sparse one; else None."""

    values: torch.Tensor
    touched: torch.Tensor | None


def flatten(parameters: list[nn.Parameter]) -> torch.Tensor:
    """The gradients of some parameters as one tensor."""
    like = parameters[0]
    layouts = [_layout(parameter.grad) for parameter in parameters]
    heads = torch.tensor(layouts, dtype=like.dtype)
    pieces = [heads.to(like.device, non_blocking=True)]  # blocking, it would wait for the GPU
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None:
            continue
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            touched = gradient.values().new_zeros(gradient.shape[: gradient.sparse_dim()])
            touched[tuple(gradient.indices())] = 1
            pieces.append(touched.reshape(-1))
            gradient = gradient.to_dense()
        pieces.append(gradient.reshape(-1))
    return torch.cat(pieces)


def summed(flat: list[torch.Tensor], like: list[nn.Parameter]) -> list[torch.Tensor | None]:
    """The sums of what ``flatten`` made, one per parameter; None where no holder has a gradient.

    flat: of each holder, in the order of summing.
    """
    of_holders = zip(*(_opened(each, like) for each in flat), strict=True)
    return [_sum([part for part in parts if part is not None]) for parts in of_holders]


def _layout(gradient: torch.Tensor | None) -> int:
    if gradient is None:
        return ABSENT
    return DENSE + (gradient.sparse_dim() if gradient.is_sparse else 0)


def _opened(flat: torch.Tensor, like: list[nn.Parameter]) -> list[Part | None]:
    """The parts of what ``flatten`` made."""
    parts: list[Part | None] = []
    at = len(like)
    for layout, parameter in zip(flat[:at].real.int().tolist(), like, strict=True):
        if layout == ABSENT:
            parts.append(None)
            continue
        touched = None
        if layout > DENSE:
            shape = parameter.shape[: layout - DENSE]
            touched = flat[at : at + math.prod(shape)].view(shape)
            at += math.prod(shape)
        parts.append(Part(flat[at : at + parameter.numel()].view(parameter.shape), touched))
        at += parameter.numel()
    return parts


def _sum(parts: list[Part]) -> torch.Tensor | None:
    """The sum of the holders' gradients: sparse where all of them are."""
    if not parts:
        return None
    total = parts[0].values.clone()
    for part in parts[1:]:
        total = total + part.values
    marks = [part.touched for part in parts if part.touched is not None]
    if len(marks) < len(parts):
        return total
    touched = torch.stack(marks).sum(0).nonzero().t()
    return torch.sparse_coo_tensor(
        touched, total[tuple(touched)], total.shape, is_coalesced=True, check_invariants=False
    )
