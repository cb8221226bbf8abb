"""Layers one after the other, and the loss: what every stage, and the unsplit model, computes."""

import functools
import inspect
from collections.abc import Callable

import torch
from torch import nn

from ..job.values import Value, closed, describe
from .randomness import TURNS, Seeds


def run_layers(
    layers: list[tuple[int, nn.Module]], value: Value, seeds: Seeds | None, microbatch: int
) -> Value:
    """Run one layer after the other, each with its own seed.

    A layer whose forward takes several arguments gets the parts of a tuple one by one; another gets
    the tuple, as in an nn.Sequential. Without ``seeds`` the generator is left as it stands.
    """
    passed = value.opened()
    for index, module in layers:
        if isinstance(passed, torch.Tensor) or not _takes_several(type(module).forward):
            arguments: tuple = (passed,)
        else:
            arguments = passed
        if seeds is None:
            passed = module(*arguments)
        elif module in TURNS.simple:
            seeds.set(index, microbatch)
            passed = module(*arguments)
        else:
            with TURNS.take(module, index, seeds, microbatch):
                passed = module(*arguments)
        if not isinstance(passed, torch.Tensor):
            _require_tensors(passed, f"layer {index} ({type(module).__name__})")
    return closed(passed)


@functools.cache
def _takes_several(forward: Callable) -> bool:
    parameters = list(inspect.signature(forward).parameters.values())[1:]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 or any(p.kind == p.VAR_POSITIONAL for p in parameters)


def _require_tensors(value: object, who: str) -> None:
    what = describe(value)
    if type(value) is tuple:
        astray = [i for i, part in enumerate(value) if not isinstance(part, torch.Tensor)]
        if value and not astray:
            return
        what = "an empty tuple"
        if astray:
            what = f"a tuple whose part {astray[0]} is {describe(value[astray[0]])}"
    raise TypeError(
        f"{who} returned {what}; between the layers of a pipeline passes a tensor or a flat tuple "
        "of tensors"
    )


def weighted_loss(loss: Callable, output: Value, target: Value, share: float) -> torch.Tensor:
    """The micro-batch's share of the batch's mean loss.

    It is scaled before the backward, so gradients never are after it. A micro-batch that counts for
    nothing is not judged at all: 0 times nan would be nan.
    """
    if share == 0:
        return Nothing.apply(*output)
    value = loss(output.opened(), target.opened())
    if not isinstance(value, torch.Tensor) or value.numel() != 1 or value.is_complex():
        raise TypeError(
            "loss_fn must return one real number as a tensor, averaged over the batch, not "
            f"{describe(value)}"
        )
    return value.reshape(()) * share


class Nothing(torch.autograd.Function):
    """The loss of a micro-batch that counts for nothing: 0, and so are its gradients."""

    @staticmethod
    def forward(ctx, *output: torch.Tensor) -> torch.Tensor:
        """Zero."""
        ctx.like = [(t.shape, t.dtype, t.device) for t in output]
        return torch.zeros((), device=output[0].device)

    @staticmethod
    def backward(ctx, _: torch.Tensor):
        """Zeros."""
        return tuple(torch.zeros(s, dtype=d, device=w) for s, d, w in ctx.like)


def not_finite(
    loss: float, microbatch: int, stage: int, inputs: Value | None, ignored: int | None = None
) -> FloatingPointError:
    """The error for a loss that is not a number.

    Args:
        loss: of the micro-batch.
        microbatch: which one.
        stage: computed it.
        inputs: of that stage, where they can be looked at.
        ignored: the one value of all its targets, where the loss may ignore it.
    """
    healthy = inputs is None or all(bool(tensor.isfinite().all()) for tensor in inputs)
    if ignored is not None and loss != loss and healthy:
        return FloatingPointError(
            f"the loss of micro-batch {microbatch}, computed by stage {stage}, is nan: all its "
            f"targets are {ignored}. If loss_fn ignores that value (ignore_index={ignored}), it "
            "has divided 0 by 0 here. Say what each micro-batch counts, and one without targets "
            f"counts for nothing: weight=lambda t: (t != {ignored}).sum()"
        )
    where = f"it was computed by stage {stage}."
    if inputs is not None:
        where = f"the input of stage {stage}, which computed it, "
        if healthy:
            where += "was finite, so it arose there."
        else:
            where += "was not finite either, so it arose on a stage before."
    return FloatingPointError(
        f"the loss of micro-batch {microbatch} is {loss}; {where} Its gradients would spoil every "
        "weight for good, so the run ends here. Often the learning rate is too large (a smaller "
        "one, or clip=1.0), the loss divides by 0 or takes its logarithm, or the data holds nan."
    )
