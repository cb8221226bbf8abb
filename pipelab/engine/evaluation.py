"""``evaluate``: the loss of a model on a batch, through a pipeline, without a backward."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..schedule import Schedule
from ..timeline import Timeline
from .layers import Value
from .plan import make_plan
from .ship import unpack
from .training import Run, finish


@dataclass(frozen=True)
class Evaluation:
    """losses: one per step, the mean over its batch. outputs: what the last layer returned for each
    step's whole batch, if it was asked for, else None. timelines: what happened in each step,
    forwards alone."""

    losses: list[float]
    outputs: list[Value] | None
    timelines: list[Timeline]


def evaluate(
    model: nn.Sequential | Sequence[nn.Module],
    inputs: Any,
    targets: Any,
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    schedule: str | Schedule,
    ranks: int | None = None,
    microbatches: int | None = None,
    stages_per_rank: int | None = None,
    steps: int = 1,
    outputs: bool = False,
    device: str = "auto",
    workers: str = "auto",
    dtype: str = "float32",
    partition: Sequence[int] | None = None,
    timeout: float | None = None,
    weight: Callable[[torch.Tensor], float] | None = None,
) -> Evaluation:
    """The losses of a model, computed by the forwards of a schedule in evaluation mode, without
    gradients.

    The arguments are those of ``run``; steps: how many batches; outputs: whether to bring home what
    the last layer returns. The model is not changed. Raises what ``run`` raises.

    >>> model = [torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)]
    >>> x = torch.ones(6, 4)
    >>> loss, sizes = torch.nn.functional.mse_loss, {"ranks": 2, "microbatches": 3}
    >>> done = evaluate(model, x, x, loss, schedule="1f1b", **sizes, outputs=True)
    >>> torch.allclose(done.outputs[0], model[0](x))
    True
    """
    plan = make_plan(
        model,
        inputs,
        targets,
        loss_fn,
        schedule=schedule,
        ranks=ranks,
        microbatches=microbatches,
        stages_per_rank=stages_per_rank,
        steps=steps,
        device=device,
        workers=workers,
        dtype=dtype,
        partition=partition,
        seed=0,
        timeout=timeout,
        weight=weight,
        evaluate=True,
        outputs=outputs,
    )
    run = Run(plan, None)
    run._thread.start()
    finish(run)
    return Evaluation(
        run.losses,
        [_output(run, step) for step in range(steps)] if outputs else None,
        run.timelines,
    )


def _output(run: Run, step: int) -> Value:
    """What the last layer returned in a step, its micro-batches put together."""
    pieces = {
        i: unpack(packed) for result in run._results() for i, packed in result.outputs[step].items()
    }
    first, *_ = pieces.values()
    parts = tuple(torch.cat([pieces[i][k] for i in sorted(pieces)]) for k in first)
    return parts[0] if None in first else parts
