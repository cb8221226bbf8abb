"""``evaluate``: the loss of a model on a batch, through a pipeline, without a backward."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import UsageError
from ..schedule import Mesh, Schedule
from ..timeline import Timeline
from .job.recipe import Recipe
from .job.where import Where
from .outcome import Run
from .setup.setup import set_up
from .training import finish
from .travel.ship import unpack


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` found.

    losses: one per step, the mean over its batch. outputs: what the last layer returned for each
    step's whole batch, if it was asked for, else None. timelines: what happened in each step,
    forwards alone.
    """

    losses: list[float]
    outputs: list[torch.Tensor | tuple[torch.Tensor, ...]] | None
    timelines: list[Timeline]


def evaluate(  # noqa: PLR0913 - as run
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
    data: int = 1,
    tensor: int = 1,
    sequence_parallel: bool = False,
    tensor_plan: Mapping[str, str] | None = None,
) -> Evaluation:
    """Compute the losses of a model by the forwards of a schedule, without gradients.

    The model is in evaluation mode. It is not changed. The arguments are those of ``run``; steps:
    how many batches; outputs: whether to bring home what the last layer returns. Raises what
    ``run`` raises.

    >>> model = [torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)]
    >>> x = torch.ones(6, 4)
    >>> loss, sizes = torch.nn.functional.mse_loss, {"ranks": 2, "microbatches": 3}
    >>> done = evaluate(model, x, x, loss, schedule="1f1b", **sizes, outputs=True)
    >>> torch.allclose(done.outputs[0], model[0](x))
    True
    """
    setup = set_up(
        model,
        inputs,
        targets,
        loss_fn,
        schedule=schedule,
        where=Where.of(device, workers, "pipelab"),
        recipe=Recipe(
            steps=steps, dtype=dtype, timeout=timeout, seed=0, evaluate=True, outputs=outputs
        ),
        ranks=ranks,
        microbatches=microbatches,
        stages_per_rank=stages_per_rank,
        partition=partition,
        weight=weight,
        mesh=Mesh(data, tensor, sequence_parallel=sequence_parallel),
        tensor_plan=tensor_plan,
    )
    run = finish(Run(setup, None).begin())
    whole = [_output(run, step) for step in range(steps)] if outputs else None
    return Evaluation(run.losses, whole, run.timelines)


def _output(run: Run, step: int) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """What the last layer returned in a step, its micro-batches put together."""
    pieces: dict[int, dict] = {}
    for result in run.results():
        if result.outputs:
            pieces |= {i: unpack(packed) for i, packed in result.outputs[step].items()}
    first, *_ = pieces.values()
    shapes = [tuple(tensor.shape) for each in pieces.values() for tensor in each.values()]
    if any(not shape for shape in shapes):
        raise UsageError(
            "outputs=True puts the outputs of the micro-batches together along their first "
            "dimension, and here they are single numbers: leave outputs out, or let the last layer "
            "return one row per sample."
        )
    parts = tuple(torch.cat([pieces[i][k] for i in sorted(pieces)]) for k in first)
    return parts[0] if None in first else parts
