"""The truth: the gradients of the unsplit model, and how far a run's gradients are from them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..job.batches import Batch
from ..job.exchange import Layer
from ..job.ship import pack, unpack
from ..job.values import joined
from ..stage.layers import Seeds, generator_of, run_layers, weighted_loss
from ..transport import gpu

FLOOR = 1e-3
"""How small a parameter's gradient may be, as a share of all, and still count by itself."""


@dataclass(frozen=True)
class Reference:
    """The unsplit model and how it was trained. device: "cpu" or "cuda"."""

    layers: list[Layer]
    loss: Callable
    dtype: str
    device: str


def unsplit_gradients(
    _: object, task: Reference, before: dict, batch: Batch, seeds: Seeds
) -> tuple[dict | None, str | None]:
    """Compute the gradients of the unsplit model, in a worker.

    They are computed on the kind of device that the run was on: another has other random numbers
    and rounds otherwise.

    Args:
        _: where the worker sits.
        task: the model and how it was trained.
        before: its weights, packed.
        batch: of the step.
        seeds: of the step's random numbers.

    Returns:
        Packed gradients by name, or None where the model does not fit in memory; and why they are
        not those of one pass over the full batch (None when they are).
    """
    where = torch.device("cpu") if task.device == "cpu" else gpu.device_of(0)
    named: dict[str, nn.Parameter] = {}
    for _, layer, module in task.layers:
        named |= {f"{layer}.{name}": p for name, p in module.named_parameters()}
    try:
        for _, _, module in task.layers:
            module.to(where)
        if isinstance(task.loss, nn.Module):
            task.loss.to(where)
        with torch.no_grad():
            for name, value in unpack(before).items():
                named[name].copy_(value)
        seeds = replace(seeds, generator=generator_of(where))
        note = _backward(task, list(named.values()), batch.to(where), seeds)
    except torch.OutOfMemoryError:
        return None, "nothing to compare with: the unsplit model does not fit in memory"
    return pack({name: p.grad for name, p in named.items() if p.grad is not None}), note


def _backward(
    task: Reference, parameters: list[nn.Parameter], batch: Batch, seeds: Seeds
) -> str | None:
    """Compute the gradients.

    Micro-batches one after the other, with the run's random numbers, are the reference where the
    full batch gives another function: BatchNorm takes its statistics from what it sees, dropout
    draws per micro-batch, and in bfloat16 a sum over a larger batch is rounded otherwise; and where
    it does not fit in memory. Returns the reason, if so.
    """
    layers = [(index, module) for index, _, module in task.layers]
    reason = _one_pass(task, layers, batch, seeds)
    if reason is None:
        return None
    for parameter in parameters:
        parameter.grad = None
    for i, share in enumerate(batch.shares):
        x, target = batch.inputs_of(i), batch.targets_of(i)
        half = task.dtype == "bfloat16"
        with torch.autocast(x[0].device.type, torch.bfloat16, enabled=half):
            loss = weighted_loss(task.loss, run_layers(layers, x, seeds, i), target, share)
        loss.backward()
    return f"against micro-batches one after the other: {reason}"


def _one_pass(
    task: Reference, layers: list[tuple[int, nn.Module]], batch: Batch, seeds: Seeds
) -> str | None:
    """Compute the gradients of the full batch in one pass, or say why they would not do."""
    modules = [module for _, layer in layers for module in layer.modules()]
    if any(isinstance(module, _BatchNorm) and module.training for module in modules):
        return "BatchNorm depends on the batch"
    if task.dtype != "float32":
        return f"{task.dtype} rounds sums over the whole batch otherwise"
    states = seeds.states()
    try:
        output = run_layers(layers, joined(batch.inputs or ()), None, 0)
        weighted_loss(task.loss, output, joined(batch.targets or ()), 1.0).backward()
    except torch.OutOfMemoryError:
        return "the whole batch does not fit in memory"
    if not all(map(torch.equal, states, seeds.states())):
        return "a layer draws random numbers"
    return None


def gradient_error(gradients: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> float:
    """The largest ‖Δ‖₂ / max(‖g_p‖₂, 10⁻³ ‖g‖₂) over the parameters p, g being the reference.

    Absent gradients are 0.
    """
    norms = {name: float(g.double().norm()) for name, g in reference.items()}
    total = sum(n * n for n in norms.values()) ** 0.5
    worst = 0.0
    for name in gradients.keys() | reference.keys():
        like = reference[name] if name in reference else gradients[name]
        mine = gradients.get(name, torch.zeros_like(like))
        true = reference.get(name, torch.zeros_like(like))
        scale = max(norms.get(name, 0.0), FLOOR * total)
        difference = float((mine.double() - true.double()).norm())
        worst = max(worst, difference / scale if scale else difference)
        if difference != difference:  # NaN never compares as larger
            return float("nan")
    return worst
