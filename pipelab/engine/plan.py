"""From the arguments of ``run`` to a checked plan.

Everything that cannot work is refused here, before a worker starts.
"""

import copy
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..catalogue import build
from ..errors import UnknownName, UsageError
from ..model import split
from ..schedule import Action, Kind, Schedule, require_legal
from ..schedule.kinds import COLLECTIVES
from ..schedule.versions import versions
from ..simulator import Costs
from ..simulator.recompute import MODES, with_recompute
from . import checkpoint
from .batches import Batch, batches_of
from .board import TRACE
from .handover import refusal
from .pool import MAX_RANKS
from .update import Exchange, plan_exchange

DEVICES = ("auto", "cpu", "cuda")
WORKERS = ("auto", "processes", "threads", "torchrun")
DTYPES = ("float32", "bfloat16")
EXECUTORS = ("pipelab", "torch")
MAX_TRACE_BYTES = 4 << 30
BUSY_SHARE = 0.4
"""How much of the processors' time paced actions may really compute: above it, neighbours delay
each other.
"""


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    stages[s]: the layers of stage s as (index in the whole model, name, module). recompute: whether
    every forward keeps only its input. first_step: steps done before this run; resumed: the
    optimizer's state then. evaluate: forwards alone, with the outputs if ``outputs``.
    """

    schedule: Schedule
    stages: list[list[tuple[int, str, nn.Module]]]
    loss: Callable
    batches: Callable[[int], Batch]
    fixed: Batch | None
    optimizer: Callable | None
    scheduler: Callable | None
    clip: float | None
    exchange: Exchange
    steps: int
    device: str
    workers: str
    executor: str
    first_step: int
    resumed: dict | None
    pace: Costs | None
    latency: float
    recompute: bool
    dtype: str
    seed: int
    timeout: float | None
    evaluate: bool
    outputs: bool

    @property
    def layers(self) -> list[tuple[int, str, nn.Module]]:
        return [layer for stage in self.stages for layer in stage]

    def durations(self, rank: int) -> dict[int, float] | None:
        """Seconds of each atom of a rank in paced mode (of a pair, the first has those of both);
        None when raw.
        """
        if self.pace is None:
            return None
        low, high = (int(bound) for bound in self.schedule.offsets[rank : rank + 2])
        return dict(
            zip(range(low, high), self.pace.per_atom(self.schedule)[low:high].tolist(), strict=True)
        )


def make_plan(
    model: nn.Sequential | Sequence[nn.Module],
    inputs: Any,
    targets: Any,
    loss_fn: Callable,
    *,
    schedule: str | Schedule,
    ranks: int | None,
    microbatches: int | None,
    stages_per_rank: int | None,
    steps: int = 1,
    optimizer: Callable | None = None,
    scheduler: Callable | None = None,
    clip: float | None = None,
    device: str,
    workers: str,
    dtype: str = "float32",
    pace: Any = None,
    latency: float = 0,
    recompute: str | None = None,
    partition: Sequence[int] | None,
    seed: int | None,
    timeout: float | None,
    weight: Callable | None,
    executor: str = "pipelab",
    resume: str | os.PathLike | None = None,
    evaluate: bool = False,
    outputs: bool = False,
) -> Plan:
    """Checks the arguments of ``run`` and splits the model. Raises UsageError, ScheduleError."""
    for what, value, valid in (
        ("device", device, DEVICES),
        ("kind of workers", workers, WORKERS),
        ("dtype", dtype, DTYPES),
        ("executor", executor, EXECUTORS),
    ):
        if value not in valid:
            raise UnknownName(what, value, valid)
    if recompute not in (None, *MODES):
        raise UnknownName("way of recomputing", recompute, MODES)
    device, workers = _where(device, workers, executor)
    if not isinstance(steps, int) or steps < 1:
        raise UsageError(f"steps is {steps!r}; a run takes a whole number of steps, 1 or more.")
    for name, value, unit in (
        ("latency", latency, " of seconds"),
        ("timeout", timeout, " of seconds"),
        ("clip", clip, ""),
    ):
        if value is not None and (
            not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0
        ):
            raise UsageError(f"{name} is {value!r}; it is a finite number{unit}, 0 or more.")
    if timeout == 0:
        raise UsageError("timeout is 0; a wait needs some time. Leave it out for a sensible limit.")
    if clip == 0:
        raise UsageError(
            "clip is 0, which leaves nothing of the gradients; it is the largest norm they may "
            "have, such as 1.0."
        )
    if not callable(loss_fn):
        raise UsageError(
            "loss_fn is not callable; it takes (output, target) and returns a mean, such as "
            "F.cross_entropy."
        )
    _check_factories(optimizer, scheduler, clip, resume)
    order = _schedule(schedule, ranks, microbatches, stages_per_rank)
    paced = _pace(pace, order, recompute)
    if recompute is not None:
        order, _ = with_recompute(order, Costs(), recompute)
    if evaluate:
        order = forwards_of(order)
    _check_versions(order, optimizer, clip)
    trace_bytes = steps * len(order.kind) * 8 * len(TRACE)
    if trace_bytes > MAX_TRACE_BYTES:
        possible = MAX_TRACE_BYTES // (trace_bytes // steps)
        raise UsageError(
            f"The timelines of {steps:,} steps of this schedule would take "
            f"{trace_bytes / 2**30:.0f} GiB: use at most {possible:,} steps in one run, and pass "
            "on its state_dict to the next."
        )
    resumed, first_step = None, 0
    if resume is not None:
        saved = checkpoint.read(resume)
        model = checkpoint.restored(model, saved, resume)
        resumed, first_step = checkpoint.optimizer_part(saved, model), saved["step"]
        seed = saved["seed"] if seed is None else seed
    stages, index = [], 0
    for stage in split(model, order.stages, partition):
        stages.append(
            [(index + i, name, module) for i, (name, module) in enumerate(stage._modules.items())]
        )
        index += len(stages[-1])
    if any(
        t.device.type != "cpu"
        for stage in stages
        for _, _, m in stage
        for t in (*m.parameters(), *m.buffers())
    ):
        stages = copy.deepcopy(stages)  # on the processor, from where each rank takes its part
        for stage in stages:
            for _, _, module in stage:
                module.cpu()
    exchange = plan_exchange(stages, order, clip is not None or evaluate)
    if Kind.STEP in order.kinds:
        _require_own_weights(order, stages)
    if seed is None:  # the processes of torchrun must agree
        seed = 0 if workers == "torchrun" else int.from_bytes(os.urandom(4), "little")
    batches = batches_of(inputs, targets, order.microbatches, weight)
    if executor == "torch":
        options = {
            "pace": pace,
            "recompute": recompute,
            "clip": clip,
            "resume": resume,
            "latency": latency,
            "weight": weight,
        }
        _check_torch(
            order,
            batches(0),
            options | {"workers": workers != "processes", "dtype": dtype != "float32"},
        )
    return Plan(
        schedule=order,
        stages=stages,
        loss=loss_fn,
        batches=batches,
        fixed=None if callable(inputs) else batches(0),
        optimizer=optimizer,
        scheduler=scheduler,
        clip=clip,
        exchange=exchange,
        steps=steps,
        device=device,
        workers=workers,
        executor=executor,
        first_step=first_step,
        resumed=resumed,
        pace=paced,
        latency=float(latency or (paced.latency if paced else 0)),
        recompute=recompute == "in-backward",
        dtype=dtype,
        seed=seed,
        timeout=timeout,
        evaluate=evaluate,
        outputs=outputs,
    )


def _where(device: str, workers: str, executor: str) -> tuple[str, str]:
    """The device and the kind of workers that "auto" stands for: GPUs by threads where there are
    any. Raises UsageError.
    """
    gpus = torch.cuda.device_count()
    if device == "cuda" and not gpus:
        raise UsageError(
            "device='cuda', but torch sees no GPU here: leave device out to run on the processor."
        )
    if workers == "auto":
        by_threads = device == "cuda" or (device == "auto" and gpus and executor == "pipelab")
        workers = "torchrun" if under_torchrun() else "threads" if by_threads else "processes"
    elif workers == "torchrun" and not under_torchrun():
        raise UsageError(
            "workers='torchrun' needs a process per rank that torchrun has started: "
            "torchrun --nproc-per-node RANKS your_script.py"
        )
    if device == "cuda" and executor == "torch":
        raise UsageError(
            "executor='torch' runs on processors only, in processes with gloo: leave device out."
        )
    if device == "auto":
        device = (
            "cuda"
            if gpus and executor == "pipelab" and workers in ("threads", "torchrun")
            else "cpu"
        )
    return device, workers


def under_torchrun() -> bool:
    """Whether torchrun (or something that sets the same variables) has started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def _check_torch(order: Schedule, batch: Batch, options: dict[str, Any]) -> None:
    """Raises UsageError for what torch's own runtime cannot do."""
    reason = refusal(order, batch.inputs) or next(
        (f"it knows no {name}=…" for name, given in options.items() if given), None
    )
    if reason:
        raise UsageError(
            f"executor='torch' hands the schedule to torch.distributed.pipelining, and {reason}."
        )


def _check_factories(
    optimizer: Callable | None, scheduler: Callable | None, clip: float | None, resume: Any
) -> None:
    if optimizer is not None and not callable(optimizer):
        raise UsageError(
            "optimizer is not callable; pass a factory that takes the parameters of a rank, such "
            "as lambda params: torch.optim.SGD(params, lr=0.1)."
        )
    if scheduler is not None and not callable(scheduler):
        raise UsageError(
            "scheduler is not callable; pass a factory that takes the optimizer of a rank, such as "
            "lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 10)."
        )
    for name, value in (("scheduler", scheduler), ("clip", clip), ("resume", resume)):
        if value is not None and optimizer is None:
            raise UsageError(
                f"{name} without an optimizer changes nothing: pass optimizer=… too, or leave "
                f"{name} out."
            )


def _schedule(
    schedule: str | Schedule,
    ranks: int | None,
    microbatches: int | None,
    stages_per_rank: int | None,
) -> Schedule:
    if isinstance(schedule, str):
        if ranks is None or microbatches is None:
            raise UsageError(f"schedule={schedule!r} needs ranks=… and microbatches=….")
        schedule = build(
            schedule, ranks=ranks, microbatches=microbatches, stages_per_rank=stages_per_rank
        )
    for name, wanted in (
        ("ranks", ranks),
        ("microbatches", microbatches),
        ("stages_per_rank", stages_per_rank),
    ):
        if wanted is not None and wanted != getattr(schedule, name):
            raise UsageError(
                f"The schedule {schedule.name} has {name} = {getattr(schedule, name)}, not "
                f"{wanted}."
            )
    require_legal(schedule)
    if schedule.kinds & COLLECTIVES:
        names = ", ".join(kind.name for kind in sorted(schedule.kinds & COLLECTIVES))
        raise UsageError(f"A run cannot do {names} yet: leave them out, or simulate the schedule.")
    forward = schedule.kind == Kind.F
    copies = np.bincount(
        schedule.microbatch[forward & (schedule.stage == 0)], minlength=schedule.microbatches
    )
    if copies.max() > 1:
        raise UsageError(
            f"Micro-batch {int(copies.argmax())} goes through both copies of the model, so its "
            "gradient would count twice: let each micro-batch go through one of them."
        )
    if schedule.ranks > MAX_RANKS:
        raise UsageError(
            f"{schedule.ranks} ranks are more worker processes than this can start (at most "
            f"{MAX_RANKS})."
        )
    return schedule


def _check_versions(schedule: Schedule, optimizer: Callable | None, clip: float | None) -> None:
    """Schedules that step the optimizer themselves: what they need, and what cannot be had with
    them.
    """
    if Kind.STEP not in schedule.kinds:
        return
    if optimizer is None:
        raise UsageError(
            f"The schedule {schedule.name} steps the optimizer between micro-batches (STEP), so "
            "it needs one: pass optimizer=…, such as lambda params: torch.optim.SGD(params, "
            "lr=0.1)."
        )
    if clip is not None:
        raise UsageError(
            "clip needs the gradients of all stages at one moment, and the schedule "
            f"{schedule.name} steps the optimizer of each stage at a time of its own. Use a "
            "schedule without STEP."
        )
    version = versions(schedule)
    newest: dict[tuple[int, int], int] = {}
    for atom in range(len(schedule.kind)):
        kind, key = schedule.kind[atom], (int(schedule.replica[atom]), int(schedule.stage[atom]))
        now, action = newest.get(key, 0), schedule.atom(atom)
        if kind == Kind.STEP:
            newest[key] = now + 1
        elif (
            schedule.weights == "double" and kind == Kind.F and not now - 1 <= version[atom] <= now
        ):
            raise UsageError(
                f"{action} needs version {version[atom]} of its weights, but at that place stage "
                f"{key[1]} keeps {max(now - 1, 0)} and {now}: two versions are enough only if a "
                "batch has as many micro-batches as are in flight, or more."
            )
        elif schedule.weights == "one" and kind != Kind.F and version[atom] != now:
            raise UsageError(
                f"Stage {key[1]} steps its optimizer between {Action(Kind.F, *action[1:])} and "
                f"{action}, which must use the same weights: the schedule needs weights='stashed' "
                "(Schedule.from_rows(..., weights='stashed')), or its steps after the backwards "
                "of what is in flight."
            )


def _require_own_weights(
    schedule: Schedule, stages: list[list[tuple[int, str, nn.Module]]]
) -> None:
    """Stages that step at times of their own must not share weights."""
    home: dict[nn.Parameter, int] = {}
    for stage, layers in enumerate(stages):
        for _, layer, module in layers:
            for name, parameter in module.named_parameters():
                if home.setdefault(parameter, stage) != stage or schedule.replicas > 1:
                    raise UsageError(
                        f"The parameter {layer}.{name} is used by more than one stage, and the "
                        f"schedule {schedule.name} steps the optimizer of each stage at a time of "
                        "its own, so its copies would differ. Use a schedule without STEP and "
                        "with one copy of the model, or keep layers that share a parameter on "
                        "one stage (partition=[...])."
                    )


def forwards_of(schedule: Schedule) -> Schedule:
    """The forwards alone, in the same order: what evaluation runs."""
    forward = schedule.kind == Kind.F
    counts = np.add.reduceat(forward, schedule.offsets[:-1])
    columns = {
        name: getattr(schedule, name)[forward]
        for name in ("kind", "stage", "microbatch", "replica")
    }
    return replace(
        schedule,
        name=f"{schedule.name}, forwards alone",
        cell=np.concatenate([np.arange(n, dtype=np.int32) for n in counts]),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        weights="one",
        **columns,
    )


def _pace(pace: Any, schedule: Schedule, recompute: str | None) -> Costs | None:
    """None, Costs in seconds, or (forward, backward[, weight_grad]) in seconds; recomputing takes
    as long as a forward.
    """
    if pace is None:
        return None
    if not isinstance(pace, Costs):
        parts = tuple(pace) if isinstance(pace, (tuple, list)) else ()
        if len(parts) not in (2, 3):
            raise UsageError(
                f"pace is {pace!r}; it is (forward, backward) in seconds, or Costs in seconds."
            )
        pace = (
            Costs(*parts)
            if len(parts) == 2
            else Costs(parts[0], backward=parts[1] + parts[2], weight_grad=parts[2])
        )
    if pace.durations["forward"] == 0 or pace.durations["backward"] == 0:
        raise UsageError("A pace of 0 seconds is no pace: leave pace out to run at full speed.")
    if isinstance(pace.latency, tuple) or pace.bandwidth is not None:
        raise UsageError(
            "A paced run knows one latency between ranks: the simulator alone knows links that "
            "differ or fill up."
        )
    if (recompute or Kind.R in schedule.kinds) and pace.recompute == 0:
        pace = replace(pace, recompute=pace.forward)
    return with_recompute(schedule, pace, recompute)[1] if recompute else pace


def gpu_names() -> list[str]:
    """The GPUs of this machine, by name."""
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def require_keepable_pace(plan: Plan, measured: dict[int, float]) -> None:
    """Refuses a pace that this machine cannot keep, and says which one it can.

    measured: processor seconds of each atom. Raises UsageError.
    """
    schedule, per_stage = plan.schedule, plan.pace.durations
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    share = BUSY_SHARE * min(1.0, cores / schedule.ranks)
    planned = plan.pace.per_atom(schedule)
    first = np.isin(np.arange(len(planned)), schedule.seconds - 1)
    alike: dict[tuple[str, int], list[int]] = {}  # (what, stage) -> atoms
    for atom in np.flatnonzero(planned).tolist():
        what = "forward and backward in one" if first[atom] else Kind(schedule.kind[atom]).title
        alike.setdefault((what, int(schedule.stage[atom])), []).append(atom)
    worked = {
        key: float(np.median([measured[atom] for atom in atoms])) for key, atoms in alike.items()
    }
    (what, stage), worst = max(
        ((key, worked[key] / float(planned[atoms[0]])) for key, atoms in alike.items()),
        key=lambda pair: pair[1],
    )
    if worst <= share:
        return
    factor = worst / share

    def scaled(name: str) -> float:
        value = per_stage[name]
        return math.ceil(factor * (max(value) if isinstance(value, tuple) else value) * 1e4) / 1e4

    split = Kind.I in schedule.kinds
    can = {"forward": scaled("forward"), "backward": scaled("input_grad" if split else "backward")}
    can |= {"weight gradient": scaled("weight_grad")} if split else {}
    raise UsageError(
        f"This machine cannot keep that pace: {what} of stage {stage} really computes "
        f"{worked[what, stage] * 1e3:.2f} ms of its "
        f"{float(planned[alike[what, stage][0]]) * 1e3:.2f} ms, and with {schedule.ranks} ranks "
        f"on {cores} cores it may use {share:.0%}. It can keep "
        + ", ".join(f"{name} {seconds * 1e3:g} ms" for name, seconds in can.items())
        + f": pace=({', '.join(f'{seconds:g}' for seconds in can.values())}). Or take a smaller "
        "model or batch."
    )
