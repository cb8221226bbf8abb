"""What a loss must be for its gradients to be those of plain torch: looked at where it is computed.

A loss that no gradient reaches trains nothing, and one with trainable tensors of its own trains
less than it seems to.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch

from ..job.losses import REMEDY
from ..job.values import Value
from .saved_bytes import storages


class LossCheck:
    """Looks at what a loss returns: every time whether it can train, once what it uses.

    trains: whether anything behind the loss has weights.
    """

    def __init__(self, stage: int, *, trains: bool):
        self._stage, self._trains, self._seen = stage, trains, False

    def look(
        self,
        loss: torch.Tensor,
        output: Value,
        weights: Callable[[], set[int]],
        microbatch: int,
    ) -> None:
        """Raise RuntimeError or TypeError for a loss that would not train what it should.

        Args:
            loss: of the micro-batch.
            output: what it judges.
            weights: gives the addresses of the stage's weights.
            microbatch: which one.
        """
        if not self._trains:
            return
        require_gradient(loss, self._stage, microbatch)
        if not self._seen:
            require_no_own_weights(loss, output, weights(), self._stage, microbatch)
            self._seen = True


def require_gradient(loss: torch.Tensor, stage: int, microbatch: int) -> None:
    """Raise RuntimeError for a loss that is cut off from what it judges, as plain torch does."""
    if not loss.requires_grad:
        raise RuntimeError(
            f"the loss of micro-batch {microbatch}, computed by stage {stage}, does not require "
            "grad, so nothing would be trained: loss_fn or the last layer cuts it off from the "
            "weights (detach, item, torch.no_grad, argmax, a new tensor). Compute it from the "
            "output with torch's functions alone; where there is nothing to judge, return "
            "output.sum() * 0"
        )


def require_no_own_weights(
    loss: torch.Tensor, output: Value, known: set[int], stage: int, microbatch: int
) -> None:
    """Raise TypeError for a trainable tensor that the loss uses and the stage does not own.

    known: the addresses of the stage's weights.
    """
    inside = {t.grad_fn for t in output} - {None}
    known = known | set(storages(output))
    seen: set[Any] = set()
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen or node in inside:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and known.isdisjoint(storages([leaf])):
            raise TypeError(
                f"loss_fn, computed by stage {stage} for micro-batch {microbatch}, uses a "
                f"trainable tensor of shape {tuple(leaf.shape)} that is none of that stage's "
                f"parameters, so it would never be stepped, saved or clipped. {REMEDY}"
            )
        waiting += [following for following, _ in node.next_functions]


def all_ignored(loss: Callable | None, target: Value | None) -> int | None:
    """The one value of all targets of a micro-batch, if its loss may ignore it; else None."""
    declared = getattr(loss, "ignore_index", None)
    if isinstance(loss, functools.partial):
        declared = loss.keywords.get("ignore_index", getattr(loss.func, "ignore_index", None))
    for tensor in target or ():
        if tensor.is_floating_point() or tensor.is_complex() or not tensor.numel():
            continue
        first = int(tensor.flatten()[0])
        if bool((tensor == first).all()) and declared in (None, first):
            return first
    return None
