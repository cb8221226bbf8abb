"""``run(partition="auto")``: how a model is cut, from a profile made on the spot."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from ..errors import UsageError
from ..layout.cutter import Cutter, Partition
from ..schedule import Schedule
from .job.batches import require_inputs
from .job.recipe import Recipe
from .job.where import Where
from .profiling import profile

WAYS = ("auto", "even")


@dataclass(frozen=True)
class Cut:
    """How a run's model is cut.

    sizes: layers of each stage; None: as equal as possible. inputs: those of the run, from which
    no batch is lost. note: what was chosen and why, where there was a choice.
    """

    sizes: Sequence[int] | None
    inputs: Any
    note: str | None = None


def cut(
    partition: str,
    model: nn.Sequential | Sequence[nn.Module],
    batch: tuple[Any, Any],
    loss_fn: Callable[..., torch.Tensor],
    *,
    schedule: Schedule,
    where: Where,
    recipe: Recipe,
    first_step: int,
) -> Cut:
    """Decide how the model is cut.

    Args:
        partition: "auto" or "even".
        model: as given to ``run``.
        batch: its inputs and targets.
        loss_fn: as given to ``run``.
        schedule: what the cuts are for.
        where: the device to measure on.
        recipe: the precision to measure in.
        first_step: the number of the step whose batch is measured with.

    Returns:
        The sizes, and inputs for the run that ask the caller's for no step twice.

    Raises:
        UsageError: a word that is neither "auto" nor "even"; "auto" under torchrun, or for a model
            that cannot be profiled.
    """
    inputs, targets = batch
    if partition not in WAYS:
        raise UsageError(
            f"partition is {partition!r}; it is 'auto' (measured), 'even', or the number of layers "
            "of each stage, such as [3, 2]."
        )
    if partition == "even":
        return Cut(None, inputs)
    if where.workers == "torchrun":
        raise UsageError(
            "partition='auto' measures, and the processes of torchrun would not measure the same: "
            "profile once (pipelab.profile, Profile.save), and give every process "
            "partition=pipelab.partition(profile, ranks=...).sizes."
        )
    measured = inputs
    if callable(inputs):
        require_inputs(inputs)
        inputs = once = _AskedOnce(inputs, first_step)
        measured = lambda _: once(first_step)  # noqa: E731 - as inputs are, of one step
    found = profile(
        model,
        measured,
        targets,
        loss_fn,
        microbatches=schedule.microbatches,
        device=where.device,
        dtype=recipe.dtype,
    )
    chosen = Cutter(found, schedule).partition()
    return Cut(chosen.sizes, inputs, _note(chosen))


class _AskedOnce:
    """The caller's inputs, which are asked for the batch of the first step once.

    They may be those of an iterator, which would be a batch further the second time.
    """

    def __init__(self, inputs: Callable[[int], Any], first_step: int):
        self._inputs, self._first_step = inputs, first_step

    @cached_property
    def _first(self) -> Any:
        return self._inputs(self._first_step)

    def __call__(self, step: int) -> Any:
        """The batch of a step."""
        return self._first if step == self._first_step else self._inputs(step)


def _note(chosen: Partition) -> str:
    even = chosen.even
    assert even is not None
    if chosen.sizes == even.sizes:
        return f"partition: {chosen.sizes}, even, which is the best for the measured times"
    return (
        f"partition: {chosen.sizes}, where the slowest rank takes {1000 * chosen.slowest:.3g} ms "
        f"per micro-batch; {even.sizes} would take {1000 * even.slowest:.3g} ms"
    )
