"""From the arguments of ``run`` to a checked plan. Everything that cannot work is refused here, before a worker starts."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..catalogue import build
from ..errors import UnknownName, UsageError
from ..model import split
from ..schedule import Kind, Schedule, require_legal
from ..simulator import Costs
from .board import TRACE
from .interpreter import SUPPORTED, Batch
from .pool import MAX_RANKS

DEVICES = ("auto", "cpu")
WORKERS = ("auto", "processes", "threads", "torchrun")
MAX_TRACE_BYTES = 4 << 30
BUSY_SHARE = 0.4
"""How much of the processors' time paced actions may really compute: above it, neighbours delay each other."""


@dataclass(frozen=True)
class Plan:
    """What a run will do. stages[s]: the layers of stage s as (index in the whole model, name, module)."""

    schedule: Schedule
    stages: list[list[tuple[int, str, nn.Module]]]
    loss: Callable
    batches: Callable[[int], Batch]
    fixed: Batch | None
    optimizer: Callable | None
    steps: int
    workers: str
    pace: Costs | None
    latency: float
    seed: int
    timeout: float | None

    @property
    def layers(self) -> list[tuple[int, str, nn.Module]]:
        return [layer for stage in self.stages for layer in stage]

    def durations(self) -> dict[tuple[int, int], float] | None:
        """Seconds of each (kind, stage) in paced mode; None when raw."""
        if self.pace is None:
            return None
        per_atom = self.pace.per_atom(self.schedule)
        return {
            (int(k), int(s)): float(d)
            for k, s, d in zip(self.schedule.kind, self.schedule.stage, per_atom, strict=True)
        }  # fmt: skip


def make_plan(
    model: nn.Sequential | Sequence[nn.Module], inputs: Any, targets: Any, loss_fn: Callable, *, schedule: str | Schedule,
    ranks: int | None, microbatches: int | None, stages_per_rank: int | None, steps: int, optimizer: Callable | None,
    device: str, workers: str, pace: Any, latency: float, partition: Sequence[int] | None, seed: int | None,
    timeout: float | None, weight: Callable | None,
) -> Plan:  # fmt: skip
    """Checks the arguments of ``run`` and splits the model. Raises UsageError, ScheduleError."""
    if device not in DEVICES:
        raise UnknownName("device", device, DEVICES)
    if workers not in WORKERS:
        raise UnknownName("kind of workers", workers, WORKERS)
    if workers == "auto":
        workers = "torchrun" if under_torchrun() else "processes"
    elif workers == "torchrun" and not under_torchrun():
        raise UsageError(
            "workers='torchrun' needs a process per rank that torchrun has started: "
            "torchrun --nproc-per-node RANKS your_script.py"
        )
    if not isinstance(steps, int) or steps < 1:
        raise UsageError(f"steps is {steps!r}; a run takes a whole number of steps, 1 or more.")
    for name, value in (("latency", latency), ("timeout", timeout)):
        if value is not None and (not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0):
            raise UsageError(f"{name} is {value!r}; it is a finite number of seconds, 0 or more.")
    if timeout == 0:
        raise UsageError("timeout is 0; a wait needs some time. Leave it out for a sensible limit.")
    if not callable(loss_fn):
        raise UsageError("loss_fn is not callable; it takes (output, target) and returns a mean, such as F.cross_entropy.")
    if optimizer is not None and not callable(optimizer):
        raise UsageError(
            "optimizer is not callable; pass a factory that takes the parameters of a rank, such as "
            "lambda params: torch.optim.SGD(params, lr=0.1)."
        )
    order = _schedule(schedule, ranks, microbatches, stages_per_rank)
    trace_bytes = steps * len(order.kind) * 8 * len(TRACE)
    if trace_bytes > MAX_TRACE_BYTES:
        possible = MAX_TRACE_BYTES // (trace_bytes // steps)
        raise UsageError(
            f"The timelines of {steps:,} steps of this schedule would take {trace_bytes / 2**30:.0f} GiB: use at most "
            f"{possible:,} steps in one run, and pass on its state_dict to the next."
        )
    stages, index = [], 0
    for stage in split(model, order.stages, partition):
        stages.append([(index + i, name, module) for i, (name, module) in enumerate(stage._modules.items())])
        index += len(stages[-1])
    if seed is None:  # the processes of torchrun must agree
        seed = 0 if workers == "torchrun" else int.from_bytes(os.urandom(4), "little")
    batches = _batches(inputs, targets, order.microbatches, weight)
    paced = _pace(pace)
    return Plan(
        schedule=order,
        stages=stages,
        loss=loss_fn,
        batches=batches,
        fixed=None if callable(inputs) else batches(0),
        optimizer=optimizer,
        steps=steps,
        workers=workers,
        pace=paced,
        latency=float(latency or (paced.latency if paced else 0)),
        seed=seed,
        timeout=timeout,
    )


def under_torchrun() -> bool:
    """Whether torchrun (or something that sets the same variables) has started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def _schedule(schedule: str | Schedule, ranks: int | None, microbatches: int | None, stages_per_rank: int | None) -> Schedule:
    if isinstance(schedule, str):
        if ranks is None or microbatches is None:
            raise UsageError(f"schedule={schedule!r} needs ranks=… and microbatches=….")
        schedule = build(schedule, ranks=ranks, microbatches=microbatches, stages_per_rank=stages_per_rank)
    for name, wanted in (("ranks", ranks), ("microbatches", microbatches), ("stages_per_rank", stages_per_rank)):
        if wanted is not None and wanted != getattr(schedule, name):
            raise UsageError(f"The schedule {schedule.name} has {name} = {getattr(schedule, name)}, not {wanted}.")
    require_legal(schedule)
    beyond = sorted(schedule.kinds - SUPPORTED)
    if beyond or schedule.overlaps or schedule.replicas > 1 or schedule.weights != "one":
        what = [f"{kind.name} ({Kind(kind).title})" for kind in beyond]
        what += ["OVERLAP_F_B"] * schedule.overlaps + ["a second replica (@1)"] * (schedule.replicas > 1)
        what += [f"{schedule.weights} weights"] * (schedule.weights != "one")
        raise UsageError(
            f"Training cannot run {', '.join(what)} yet: it runs schedules of F and full B. "
            "The simulator can show this schedule."
        )
    if schedule.ranks > MAX_RANKS:
        raise UsageError(f"{schedule.ranks} ranks are more worker processes than this can start (at most {MAX_RANKS}).")
    return schedule


def _pace(pace: Any) -> Costs | None:
    """None, Costs in seconds, or (forward, backward[, weight_grad]) in seconds."""
    if pace is None:
        return None
    if not isinstance(pace, Costs):
        parts = tuple(pace) if isinstance(pace, (tuple, list)) else ()
        if len(parts) not in (2, 3):
            raise UsageError(f"pace is {pace!r}; it is (forward, backward) in seconds, or Costs in seconds.")
        pace = Costs(*parts) if len(parts) == 2 else Costs(parts[0], backward=parts[1] + parts[2], weight_grad=parts[2])
    if pace.durations["forward"] == 0 or pace.durations["backward"] == 0:
        raise UsageError("A pace of 0 seconds is no pace: leave pace out to run at full speed.")
    return pace


def _batches(inputs: Any, targets: Any, microbatches: int, weight: Callable | None) -> Callable[[int], Batch]:
    """step -> the micro-batches of that step, each a tensor of its own."""
    if callable(inputs):
        if targets is not None:
            raise UsageError("inputs is callable and gives inputs and targets of a step, so targets must be None.")

        def of_step(step: int) -> Batch:
            pair = inputs(step)
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise UsageError(f"inputs({step}) returned a {type(pair).__name__}, not (inputs, targets).")
            return _split_batch(*pair, microbatches, weight)

        return of_step
    if targets is None:
        raise UsageError("targets is missing: pass the targets of the batch, or a callable step -> (inputs, targets).")
    batch = _split_batch(inputs, targets, microbatches, weight)
    return lambda step: batch


def _split_batch(inputs: Any, targets: Any, microbatches: int, weight: Callable | None) -> Batch:
    for name, value in (("inputs", inputs), ("targets", targets)):
        if not isinstance(value, torch.Tensor) or value.dim() == 0:
            raise UsageError(f"{name} must be a tensor whose first dimension is the batch, not {type(value).__name__}.")
    size = inputs.shape[0]
    if targets.shape[0] != size:
        raise UsageError(f"There are {size} inputs but {targets.shape[0]} targets; the first dimension of both is the batch.")
    if microbatches > size:
        raise UsageError(
            f"A batch of {size} cannot be split into {microbatches} micro-batches: use at most {size}, or a larger batch."
        )
    xs, ys = (tuple(part.detach().clone() for part in t.tensor_split(microbatches)) for t in (inputs, targets))
    shares = [float(weight(y)) for y in ys] if weight else [x.shape[0] for x in xs]
    total = sum(shares)
    if not total > 0 or min(shares) < 0:
        raise UsageError(f"The weights of the micro-batches are {shares}; they must be 0 or more and not all 0.")
    return Batch(xs, ys, tuple(share / total for share in shares))


def gpu_names() -> list[str]:
    """The GPUs of this machine, by name. Runs use the processor for now."""
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def require_keepable_pace(plan: Plan, measured: dict[tuple[int, int], float]) -> None:
    """Refuses a pace that this machine cannot keep, and says which one it can.

    measured: processor seconds of each (kind, stage). Raises UsageError.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = BUSY_SHARE * min(1.0, cores / plan.schedule.ranks)
    durations = plan.durations()
    (kind, stage), worst = max(((key, measured[key] / durations[key]) for key in durations), key=lambda pair: pair[1])
    if worst <= share:
        return
    factor = worst / share
    per_stage = plan.pace.durations

    def scaled(name: str) -> float:
        value = per_stage[name]
        return math.ceil(factor * (max(value) if isinstance(value, tuple) else value) * 1e4) / 1e4

    raise UsageError(
        f"This machine cannot keep that pace: {Kind(kind).title} of stage {stage} really computes "
        f"{measured[kind, stage] * 1e3:.2f} ms of its {durations[kind, stage] * 1e3:.2f} ms, and with {plan.schedule.ranks} "
        f"ranks on {cores} cores it may use {share:.0%}. It can keep forward {scaled('forward') * 1e3:g} ms, backward "
        f"{scaled('backward') * 1e3:g} ms: pace=({scaled('forward'):g}, {scaled('backward'):g}). "
        "Or take a smaller model or batch."
    )
