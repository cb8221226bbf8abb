"""``run`` and ``start``: train a model through a pipeline, for real."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from ..schedule import Mesh, Schedule
from ..simulator import Costs
from .cutting import cut
from .job.callables import require_takes
from .job.recipe import OptimizerFactory, Recipe, SchedulerFactory
from .job.where import Where
from .outcome import Event, Run
from .setup.setup import schedule_of, set_up
from .travel import checkpoint


def start(  # noqa: PLR0913 - the whole of what a run can be told
    model: nn.Sequential | Sequence[nn.Module],
    inputs: Any,
    targets: Any,
    loss_fn: Callable[..., torch.Tensor],
    *,
    schedule: str | Schedule,
    ranks: int | None = None,
    microbatches: int | None = None,
    stages_per_rank: int | None = None,
    partition: str | Sequence[int] | None = None,
    steps: int = 1,
    optimizer: OptimizerFactory | None = None,
    scheduler: SchedulerFactory | None = None,
    clip: float | None = None,
    dtype: str = "float32",
    pace: Costs | tuple[float, ...] | None = None,
    latency: float = 0,
    recompute: str | None = None,
    seed: int | None = None,
    timeout: float | None = None,
    weight: Callable[..., float] | None = None,
    data: int = 1,
    tensor: int = 1,
    zero: int = 0,
    sequence_parallel: bool = False,
    tensor_plan: Mapping[str, str] | None = None,
    resume: str | os.PathLike | None = None,
    device: str = "auto",
    workers: str = "auto",
    executor: str = "pipelab",
    on_event: Callable[[Event], None] | None = None,
) -> Run:
    """``run`` in the background.

    It returns at once, with a Run that is going on (``wait``, ``cancel``, ``snapshot``). Arguments
    and errors are those of ``run``.
    """
    given = locals()
    if on_event is not None:
        require_takes("on_event", on_event, ("event",), "it takes each finished action")
    recipe = Recipe(**{f.name: given[f.name] for f in fields(Recipe) if f.name in given})
    mesh = Mesh(data, tensor, zero, sequence_parallel)
    where, note = Where.of(device, workers, executor, paced=pace is not None), None
    if isinstance(partition, str):
        schedule = schedule_of(schedule, ranks, microbatches, stages_per_rank)
        how = cut(
            partition,
            model,
            (inputs, targets),
            loss_fn,
            schedule=schedule,
            where=where,
            recipe=recipe,
            first_step=0 if resume is None else checkpoint.read(resume)["step"],
        )
        partition, inputs, note = how.sizes, how.inputs, how.note
    setup = set_up(
        model,
        inputs,
        targets,
        loss_fn,
        schedule=schedule,
        where=where,
        recipe=recipe,
        ranks=ranks,
        microbatches=microbatches,
        stages_per_rank=stages_per_rank,
        partition=partition,
        weight=weight,
        resume=resume,
        mesh=mesh,
        tensor_plan=tensor_plan,
    )
    return Run(setup, on_event, partition_note=note).begin()


def run(  # noqa: PLR0913 - the whole of what a run can be told
    model: nn.Sequential | Sequence[nn.Module],
    inputs: Any,
    targets: Any,
    loss_fn: Callable[..., torch.Tensor],
    *,
    schedule: str | Schedule,
    ranks: int | None = None,
    microbatches: int | None = None,
    stages_per_rank: int | None = None,
    partition: str | Sequence[int] | None = None,
    steps: int = 1,
    optimizer: OptimizerFactory | None = None,
    scheduler: SchedulerFactory | None = None,
    clip: float | None = None,
    dtype: str = "float32",
    pace: Costs | tuple[float, ...] | None = None,
    latency: float = 0,
    recompute: str | None = None,
    seed: int | None = None,
    timeout: float | None = None,
    weight: Callable[..., float] | None = None,
    data: int = 1,
    tensor: int = 1,
    zero: int = 0,
    sequence_parallel: bool = False,
    tensor_plan: Mapping[str, str] | None = None,
    resume: str | os.PathLike | None = None,
    device: str = "auto",
    workers: str = "auto",
    executor: str = "pipelab",
    on_event: Callable[[Event], None] | None = None,
) -> Run:
    """Train a model through a pipeline of real workers, and measure what happens.

    Args:
        model: an ``nn.Sequential`` or a list of modules, each taking what the one before returns:
            a tensor, or a flat tuple of tensors (one by one where its forward takes several
            arguments, else as one). It is never changed.
        inputs: one batch for every step (first dimension: samples; a tensor or a tuple of them), or
            a callable step -> (inputs, targets).
        targets: of the batch; None where ``inputs`` is a callable.
        loss_fn: (output, target) -> the mean over the samples, as a tensor.
        schedule: a name or a Schedule.
        ranks: as for ``build``; a Schedule knows it.
        microbatches: as for ``build``; a Schedule knows it.
        stages_per_rank: as for ``build``; a Schedule knows it.
        partition: the number of layers of each stage; "even" or without it as equal as possible;
            "auto": a profile is made first, and the slowest rank is as fast as it can be
            (``Run.partition_note`` says what was chosen).
        steps: how many training steps.
        optimizer: a factory parameters -> Optimizer; without one only gradients are computed. Each
            rank gives it its own parameters, and where it has an argument ``named``, there (name in
            the model, parameter) of each: weight decay can go by names.
        scheduler: a factory optimizer -> LRScheduler, stepped once a step.
        clip: the largest norm of the gradients of the whole model.
        dtype: "float32" computes in the model's own precision, "bfloat16" under autocast.
        pace: None to run at full speed; or (forward, backward[, weight gradient]) in seconds, or
            Costs in seconds: every action really computes, then sleeps to its duration. Its
            slowdown makes single workers slow.
        latency: seconds added to every transfer between ranks.
        recompute: None; "in-backward" or "early": forwards keep only their input and run once more,
            inside the backward or before it.
        seed: of the layers that draw random numbers.
        timeout: seconds that any wait may last (default: 30, or 20 times the longest action).
        weight: target of a micro-batch -> what it counts in the mean (tokens), where that is not
            its number of samples.
        data: copies of the pipeline, each in workers of its own. The batch is split over them
            first, and their gradients are summed.
        tensor: workers that share every layer of a rank. The world has data × ranks × tensor
            workers; worker (d · ranks + p) · tensor + t is rank p of copy d.
        zero: what the copies share instead of holding it each: 0 nothing, 1 the optimizer's state,
            2 gradients too, 3 weights too. The optimizer is given rows of each parameter then.
        sequence_parallel: with ``tensor``, cut along the sequence what lies between cut layers.
        tensor_plan: which modules are cut how, by name: "column", "row", "vocabulary" (see
            ``engine/mesh/cuts.py``). Built-in models bring theirs.
        resume: a checkpoint of ``Run.save`` to go on from; steps are numbered on.
        device: "cpu", "cuda" or "auto": the GPUs if there are any and the run is not paced.
        workers: "processes", "threads" of one process, "torchrun" (this process is one of the
            ranks), or "auto": torchrun where it has started this process; threads where ranks share
            a GPU, or one Python keeps up with all of theirs; else processes.
        executor: "pipelab", or "torch" for torch.distributed.pipelining's own runtime under the
            same schedule.
        on_event: called with each finished action, from another thread.

    Returns:
        A finished Run. Interrupting it ends the workers.

    Raises:
        UsageError: what cannot work, before anything starts.
        ScheduleError: a schedule that cannot run, before anything starts.
        WorkerError: a worker raised, with its traceback.
        WorkerDied: a worker's process ended.
        WorkerStalled: a wait lasted too long.
        RunCancelled: it was stopped.

    >>> import torch
    >>> layers = [torch.nn.Linear(8, 8) for _ in range(4)]
    >>> x = torch.randn(8, 8)
    >>> loss = torch.nn.functional.mse_loss
    >>> done = run(layers, x, x, loss, schedule="1f1b", ranks=2, microbatches=4)
    >>> done.gradient_error < 1e-5
    True
    """
    return finish(start(**locals()))


def finish(going: Run) -> Run:
    """Wait for a run; an interrupt ends it and its workers first."""
    try:
        return going.wait()
    except KeyboardInterrupt:
        going.cancel()
        going.wait_quietly()
        raise
