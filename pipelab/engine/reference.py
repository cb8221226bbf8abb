"""The truth: the gradients of the unsplit model, computed in a worker, and how far a run's
gradients are from them.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from . import gpu
from .batches import Batch
from .layers import Seeds, Value, generator_of, run_layers, weighted_loss
from .ship import pack, unpack
from .worker import Place

FLOOR = 1e-3


def unsplit_gradients(
    place: Place,
    layers: list[tuple[int, str, nn.Module]],
    before: dict,
    loss: Callable,
    batch: Batch,
    seeds: Seeds,
    dtype: str,
    device: str,
) -> tuple[dict | None, str | None]:
    """Packed gradients by name, and why they are not those of one pass over the full batch (None
    when they are).

    On the kind of device that the run was on: another has other random numbers and rounds
    otherwise. None where the model does not fit there, with the reason.
    """
    where = torch.device("cpu") if device == "cpu" else gpu.device_of(0)
    try:
        for module in [module for _, _, module in layers] + [loss] * isinstance(loss, nn.Module):
            module.to(where)
        named = {
            f"{name}.{k}": p for _, name, module in layers for k, p in module.named_parameters()
        }
        with torch.no_grad():
            for name, value in unpack(before).items():
                named[name].copy_(value)
        plain = [(index, module) for index, _, module in layers]
        note = _backward(
            plain,
            named,
            loss,
            batch.to(where),
            replace(seeds, generator=generator_of(where)),
            dtype,
        )
        return pack({name: p.grad for name, p in named.items() if p.grad is not None}), note
    except torch.OutOfMemoryError:
        return None, "nothing to compare with: the unsplit model does not fit in memory"


def _backward(
    layers: list[tuple[int, nn.Module]],
    named: dict[str, nn.Parameter],
    loss: Callable,
    batch: Batch,
    seeds: Seeds,
    dtype: str,
) -> str | None:
    """Computes the gradients.

    Micro-batches one after the other, with the run's random numbers, are the reference where the
    full batch gives another function: BatchNorm takes its statistics from what it sees, dropout
    draws per micro-batch, and in bfloat16 a sum over a larger batch is rounded otherwise; and where
    it does not fit in memory. Returns the reason, if so.
    """
    reason = None
    if any(
        isinstance(m, _BatchNorm) and m.training for _, module in layers for m in module.modules()
    ):
        reason = "BatchNorm depends on the batch"
    elif dtype != "float32":
        reason = f"{dtype} rounds sums over the whole batch otherwise"
    else:
        states = seeds.states()
        try:
            weighted_loss(
                loss, run_layers(layers, _join(batch.inputs), None, 0), _join(batch.targets), 1.0
            ).backward()
        except torch.OutOfMemoryError:
            reason = "the whole batch does not fit in memory"
        else:
            if not all(map(torch.equal, states, seeds.states())):
                reason = "a layer draws random numbers"
    if reason is None:
        return None
    for parameter in named.values():
        parameter.grad = None
    for i, (x, target, weight) in enumerate(
        zip(batch.inputs, batch.targets, batch.weights, strict=True)
    ):
        kind = (x if isinstance(x, torch.Tensor) else x[0]).device.type
        with torch.autocast(kind, torch.bfloat16, enabled=dtype == "bfloat16"):
            value = weighted_loss(loss, run_layers(layers, x, seeds, i), target, weight)
        value.backward()
    return f"against micro-batches one after the other: {reason}"


def _join(pieces: tuple[Value, ...]) -> Value:
    """Micro-batches as one batch."""
    if isinstance(pieces[0], torch.Tensor):
        return torch.cat(pieces)
    return tuple(_join(parts) for parts in zip(*pieces, strict=True))


def gradient_error(gradients: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> float:
    """The largest ‖Δ‖₂ / max(‖g_p‖₂, 10⁻³ ‖g‖₂) over the parameters p, g being the reference.

    Absent gradients are 0.
    """
    norms = {name: float(g.double().norm()) for name, g in reference.items()}
    total = sum(n * n for n in norms.values()) ** 0.5
    worst = 0.0
    for name in gradients.keys() | reference.keys():
        mine, true = gradients.get(name), reference.get(name)
        mine = torch.zeros_like(true) if mine is None else mine
        true = torch.zeros_like(mine) if true is None else true
        scale = max(norms.get(name, 0.0), FLOOR * total)
        difference = float((mine.double() - true.double()).norm())
        worst = max(worst, difference / scale if scale else difference)
        if difference != difference:  # NaN never compares as larger
            return float("nan")
    return worst
