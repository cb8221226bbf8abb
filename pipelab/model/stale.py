"""Training without a pipeline, with the weight versions that a pipeline without a flush would use.

    micro-batch k    stage 0 at version v(0, k), …, stage p − 1 at version v(p − 1, k)
                     forward, backward; the gradient goes to the newest weights

Which version is in the schedule (``schedule.versions``). A pipeline computes the same, and many
learning rates at once need no more time here than one.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call, vmap

from ..errors import UsageError
from ..schedule import Kind, Schedule
from ..schedule.versions import versions
from .partition import split
from .workload import Workload

Tensors = dict[str, torch.Tensor]


def stale_losses(
    job: Workload, schedule: Schedule, rates: Sequence[float], *, momentum: float = 0.9
) -> list[list[float]]:
    """Train once through a schedule's micro-batches, with several learning rates side by side.

    The optimizer is SGD on the mean gradient of the micro-batches between two steps.

    Args:
        job: the model; micro-batch k is ``job.batches(k)``.
        schedule: it steps the optimizer itself (STEP), as PipeDream and 2BW do; others step once,
            after all their micro-batches.
        rates: the learning rates.
        momentum: of SGD.

    Returns:
        For each rate the loss of every micro-batch, before its own step; nan or a huge number where
        training diverges.

    Raises:
        UsageError: no learning rate, or none that is above 0.
    """
    if not rates or min(rates) <= 0:
        raise UsageError(f"rates is {list(rates)!r}; it has learning rates above 0.")
    table, every = _table(schedule)
    keep = 1 + max(k // every - min(row[k] for row in table) for k in range(len(table[0])))
    stages = [_Stage(part, rates, momentum, keep) for part in split(job.model, schedule.stages)]

    def forward(weights: Tensors, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return job.loss_fn(functional_call(job.model, weights, (inputs,)), targets)

    lanes, found = vmap(forward, in_dims=(0, None, None)), []
    for k in range(schedule.microbatches):
        used = [stage.at(table[s][k]) for s, stage in enumerate(stages)]
        losses = lanes({n: w for part in used for n, w in part.items()}, *job.batches(k))
        losses.sum().backward()  # each rate has weights of its own: the sum mixes nothing
        found.append(losses.detach())
        for stage, weights in zip(stages, used, strict=True):
            stage.collect(weights)
            if (k + 1) % every == 0:
                stage.step(every)
    curves: list[list[float]] = torch.stack(found, dim=1).tolist()
    return curves


def _table(schedule: Schedule) -> tuple[list[list[int]], int]:
    """The version of each stage for each micro-batch, and micro-batches from step to step."""
    version = versions(schedule)
    table = [[0] * schedule.microbatches for _ in range(schedule.stages)]
    for atom in (schedule.kind == Kind.F).nonzero()[0]:
        table[schedule.stage[atom]][schedule.microbatch[atom]] = int(version[atom])
    first = schedule.stage == 0
    steps = int(((schedule.kind == Kind.STEP) & first).sum())
    return table, schedule.microbatches // max(1, steps)


class _Stage:
    """The weights of one stage, for every rate, in all versions that are still asked for."""

    def __init__(self, part: nn.Module, rates: Sequence[float], momentum: float, keep: int):
        copies = {n: p.detach().repeat(len(rates), *[1] * p.dim()) for n, p in _named(part)}
        self._versions = {0: copies}
        self._newest, self._keep = 0, keep
        self._momentum = momentum
        self._rates = [
            torch.tensor(rates).reshape(-1, *[1] * (w.dim() - 1)) for w in copies.values()
        ]
        self._speed = {n: torch.zeros_like(w) for n, w in copies.items()}
        self._sum = {n: torch.zeros_like(w) for n, w in copies.items()}

    def at(self, version: int) -> Tensors:
        """A version, as leaves that take gradients."""
        return {n: w.detach().requires_grad_() for n, w in self._versions[version].items()}

    def collect(self, used: Tensors) -> None:
        """Add the gradients of a micro-batch."""
        for name, weights in used.items():
            if weights.grad is not None:
                self._sum[name] += weights.grad

    def step(self, count: int) -> None:
        """Make the next version, with the mean of so many gradients."""
        now, speed, total = (
            list(named.values()) for named in (self._versions[self._newest], self._speed, self._sum)
        )
        torch._foreach_mul_(speed, self._momentum)
        torch._foreach_add_(speed, total, alpha=1 / count)
        moved = torch._foreach_mul(speed, self._rates)
        torch._foreach_zero_(total)
        self._newest += 1
        new = torch._foreach_sub(now, moved)
        self._versions[self._newest] = dict(zip(self._speed, new, strict=True))
        self._versions.pop(self._newest - self._keep, None)


def _named(part: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters under the names they have in the whole model."""
    return list(part.named_parameters())
