"""From the arguments of ``run`` to a checked setup.

Everything that cannot work is refused here, before a worker starts.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from ...catalogue import build
from ...errors import UsageError
from ...model import split
from ...schedule import Kind, Mesh, Schedule, require_legal, spread
from ...schedule.forwards import forwards_of
from ...simulator import Costs, simulate
from ...simulator.recompute import with_recompute
from ...timeline import Timeline
from ..job.batches import Data, data_of
from ..job.callables import require_takes
from ..job.exchange import Exchange, Layer, plan_exchange
from ..job.losses import check_loss
from ..job.recipe import Recipe
from ..job.reductions import check_reductions, with_reductions
from ..job.where import Where
from ..mesh.cuts import TensorPlan, plan_of
from ..travel import checkpoint
from ..travel.checkpoint import Resumed
from ..travel.settings import Settings
from ..travel.ship import copied
from .checks import check_steps, check_torch, check_trace, require_sizes
from .meshes import require_mesh, require_own_memory, with_collectives
from .own_parameters import require_own_parameters, require_own_weights
from .pacing import latency_of, pace_of


@dataclass(frozen=True)
class Setup:
    """What a run will do.

    stages[s]: the layers of stage s, for the ranks. own_layers: the caller's own. data: the
    batches. pace: None at full speed. resumed: what the run goes on from, or None. settings: of
    torch, as the caller has them. mesh, plan: how the pipeline is repeated and its layers are cut.
    """

    schedule: Schedule
    stages: list[list[Layer]]
    own_layers: list[Layer]
    loss: Callable
    data: Data
    recipe: Recipe
    where: Where
    pace: Costs | None
    resumed: Resumed | None
    settings: Settings
    mesh: Mesh
    plan: TensorPlan

    @cached_property
    def world(self) -> Schedule:
        """The schedule of all workers of the mesh."""
        return spread(self.schedule, self.mesh)

    @property
    def layers(self) -> list[Layer]:
        """The layers of the whole model, as they go to the ranks."""
        return [layer for stage in self.stages for layer in stage]

    @property
    def first_step(self) -> int:
        """Steps done before this run."""
        return 0 if self.resumed is None else self.resumed.step

    @cached_property
    def exchange(self) -> Exchange:
        """What ranks exchange between two steps."""
        if self.recipe.evaluate:  # no gradients, so nothing is shared
            return plan_exchange([[] for _ in self.stages], self.schedule, meet=True)
        # With copies, a rank that is done early would gather weights for the next step meanwhile.
        meet = self.recipe.clip is not None or self.mesh.data > 1
        return plan_exchange(self.stages, self.schedule, meet=meet)

    def predicted(self, costs: Costs) -> Timeline:
        """What the simulator expects of one step, from costs in seconds."""
        return replace(simulate(self.schedule, costs, mesh=self.mesh), unit="s")

    @cached_property
    def planned(self) -> Timeline | None:
        """A step as its pace says; None when raw."""
        if self.pace is None:
            return None
        return self.predicted(replace(self.pace, latency=self.recipe.latency))

    def durations(self, worker: int) -> dict[int, float] | None:
        """Seconds of each atom of a worker's rank in paced mode; None when raw.

        Of a pair, the first has those of both. Waiting inside of actions counts.
        """
        if self.planned is None:
            return None
        rank = self.mesh.place(self.schedule.ranks, worker).rank
        low, high = self.schedule.slices[rank]
        seconds = self.planned.compute[slice(*self.world.slices[worker])].tolist()
        return dict(zip(range(low, high), seconds, strict=True))


def set_up(  # noqa: PLR0913 - what ``run`` is given
    model: nn.Sequential | Sequence[nn.Module],
    inputs: Any,
    targets: Any,
    loss_fn: Callable,
    *,
    schedule: str | Schedule,
    where: Where,
    recipe: Recipe,
    ranks: int | None = None,
    microbatches: int | None = None,
    stages_per_rank: int | None = None,
    partition: Sequence[int] | None = None,
    weight: Callable | None = None,
    resume: str | os.PathLike | None = None,
    mesh: Mesh | None = None,
    tensor_plan: Mapping[str, str] | None = None,
) -> Setup:
    """Check the arguments of ``run`` and split the model. Raises UsageError, ScheduleError."""
    how = "it takes (output, target) and returns a mean, such as F.cross_entropy"
    require_takes("loss_fn", loss_fn, ("output", "target"), how)
    if not recipe.evaluate:
        check_loss(loss_fn)
    if resume is not None:
        recipe.require_optimizer("resume")
    mesh = Mesh() if mesh is None else mesh
    order = schedule_of(schedule, ranks, microbatches, stages_per_rank)
    require_mesh(order, mesh, where)
    pace = pace_of(recipe, order)
    if recipe.recompute is not None:
        order, _ = with_recompute(order, Costs(), recipe.recompute)
    if recipe.evaluate:
        order = forwards_of(order)
    else:
        order = with_collectives(order, mesh)
    if mesh.planes > 1 and where.workers == "auto":
        where = replace(where, workers="processes")  # whose groups meet in shared memory
    where = where.settled(order)
    check_steps(order, recipe)
    own = _layers_of_stages(model, order, partition)
    resumed = None
    if resume is not None:
        model, resumed = checkpoint.resume_from(resume, model)
    stages = _layers_of_stages(model, order, partition)
    stages, loss = _on_processor(stages, loss_fn)
    require_own_parameters(own, loss_fn, recipe, order)
    if Kind.STEP in order.kinds:
        require_own_weights(order, stages)
    if mesh.tensor > 1 or mesh.zero:
        require_own_memory(own)
    if not recipe.evaluate:
        order = with_reductions(order, stages)
    layers = [layer for stage in stages for layer in stage]
    patterns = tensor_plan or getattr(model, "tensor_plan", None)
    plan = plan_of(layers, patterns, mesh.tensor, sequence=mesh.sequence_parallel)
    data = data_of(inputs, targets, order.microbatches, weight, copies=mesh.data)
    if where.executor == "torch":
        given = {"resume": resume, "weight": weight, "pace": recipe.pace}
        check_torch(order, data, recipe, where, given)
    recipe = replace(recipe, latency=latency_of(recipe, pace), seed=_seed(recipe, where, resumed))
    own_layers = [layer for stage in own for layer in stage]
    setup = Setup(
        order,
        stages,
        own_layers,
        loss,
        data,
        recipe,
        where,
        pace,
        resumed,
        Settings.of_caller(),
        mesh,
        plan,
    )
    check_trace(setup.world, recipe.steps)
    check_reductions(order, setup.exchange, once=mesh.data == 1)
    return setup


def schedule_of(
    schedule: str | Schedule,
    ranks: int | None,
    microbatches: int | None,
    stages_per_rank: int | None,
) -> Schedule:
    """The schedule of a run: legal, and of the sizes that were asked for."""
    if isinstance(schedule, str):
        if ranks is None or microbatches is None:
            raise UsageError(f"schedule={schedule!r} needs ranks=… and microbatches=….")
        schedule = build(
            schedule, ranks=ranks, microbatches=microbatches, stages_per_rank=stages_per_rank
        )
    if not isinstance(schedule, Schedule):
        raise UsageError(
            f"schedule is {schedule!r}; it is a name, such as '1f1b', or a Schedule of "
            "pipelab.build or Schedule.from_csv."
        )
    require_sizes(
        schedule,
        {"ranks": ranks, "microbatches": microbatches, "stages_per_rank": stages_per_rank},
    )
    require_legal(schedule)
    first = (schedule.kind == Kind.F) & (schedule.stage == 0)
    copies = np.bincount(schedule.microbatch[first], minlength=schedule.microbatches)
    if copies.max() > 1:
        raise UsageError(
            f"Micro-batch {int(copies.argmax())} goes through both copies of the model, so its "
            "gradient would count twice: let each micro-batch go through one of them."
        )
    return schedule


def _layers_of_stages(
    model: nn.Sequential | Sequence[nn.Module], schedule: Schedule, partition: Sequence[int] | None
) -> list[list[Layer]]:
    """The layers of each stage: the model's own."""
    stages: list[list[Layer]] = []
    index = 0
    for part in split(model, schedule.stages, partition):
        stages.append([])
        for name, module in part._modules.items():  # named_children leaves out what stands twice
            if module is not None:
                stages[-1].append((index, name, module))
                index += 1
    return stages


def _on_processor(stages: list[list[Layer]], loss: Callable) -> tuple[list[list[Layer]], Callable]:
    """Layers and loss on the processor, from where each rank takes its part; copies, if need be."""

    def modules(stages: list[list[Layer]], loss: Callable) -> list[nn.Module]:
        layers = [module for stage in stages for _, _, module in stage]
        return [*layers, loss] if isinstance(loss, nn.Module) else layers

    tensors: list[torch.Tensor] = []
    for module in modules(stages, loss):
        tensors += [*module.parameters(), *module.buffers()]
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return stages, loss
    stages, loss = copied((stages, loss))
    for module in modules(stages, loss):
        module.cpu()
    return stages, loss


def _seed(recipe: Recipe, where: Where, resumed: Resumed | None) -> int:
    if recipe.seed is not None:
        return recipe.seed
    if resumed is not None:
        return resumed.seed
    if where.workers == "torchrun":
        return 0  # the processes must agree
    return int.from_bytes(os.urandom(4), "little")
