"""The truth: the gradients of the unsplit model, computed in a worker, and how far a run's gradients are from them."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .layers import Seeds, Value, run_layers, weighted_loss
from .ship import pack, unpack
from .worker import Place

FLOOR = 1e-3


def unsplit_gradients(
    place: Place,
    layers: list[tuple[int, str, nn.Module]],
    before: dict,
    loss: Callable,
    inputs: tuple,
    targets: tuple,
    weights: tuple,
    seeds: Seeds,
    dtype: str,
) -> tuple[dict, str | None]:
    """Packed gradients by name, and why they are not those of one pass over the full batch (None when they are).

    Micro-batches one after the other, with the run's random numbers, are the reference where the full batch gives
    another function: BatchNorm takes its statistics from what it sees, dropout draws per micro-batch, and in bfloat16
    a sum over a larger batch is rounded otherwise.
    """
    named = {f"{name}.{k}": p for _, name, module in layers for k, p in module.named_parameters()}
    with torch.no_grad():
        for name, value in unpack(before).items():
            named[name].copy_(value)
    plain = [(index, module) for index, _, module in layers]
    note = None
    if any(isinstance(m, _BatchNorm) and m.training for _, module in plain for m in module.modules()):
        note = "against micro-batches one after the other: BatchNorm depends on the batch"
    elif dtype != "float32":
        note = f"against micro-batches one after the other: {dtype} rounds sums over the whole batch otherwise"
    else:
        state = torch.default_generator.get_state()
        weighted_loss(loss, run_layers(plain, _join(inputs), None, 0), _join(targets), 1.0).backward()
        if not torch.equal(state, torch.default_generator.get_state()):
            note = "against micro-batches one after the other: a layer draws random numbers"
    if note:
        for parameter in named.values():
            parameter.grad = None
        for i, (x, target, weight) in enumerate(zip(inputs, targets, weights, strict=True)):
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                value = weighted_loss(loss, run_layers(plain, x, seeds, i), target, weight)
            value.backward()
    return pack({name: p.grad for name, p in named.items() if p.grad is not None}), note


def _join(pieces: tuple[Value, ...]) -> Value:
    """Micro-batches as one batch."""
    if isinstance(pieces[0], torch.Tensor):
        return torch.cat(pieces)
    return tuple(_join(parts) for parts in zip(*pieces, strict=True))


def gradient_error(gradients: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> float:
    """The largest ‖Δ‖₂ / max(‖g_p‖₂, 10⁻³ ‖g‖₂) over the parameters p, g being the reference. Absent gradients are 0."""
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
