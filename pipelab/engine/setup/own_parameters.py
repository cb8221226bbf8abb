"""Parameters must be where they are used: what reaches another rank's would work on a copy.

A layer may keep another layer in a list, a loss may add a penalty on all weights, an optimizer may
hold ``model.parameters()``. In one process all of them mean the same objects. On a rank they would
mean copies that nobody trains, and nothing would say so: such a run is refused by name.
"""

from collections.abc import Callable

from torch import nn

from ...errors import UsageError
from ...schedule import Schedule
from ..job.exchange import Layer
from ..job.recipe import Recipe
from ..travel.ship import reached_parameters


def require_own_parameters(
    stages: list[list[Layer]], loss: Callable, recipe: Recipe, schedule: Schedule
) -> None:
    """Refuse what reaches a parameter of the model that is not its own.

    Raises UsageError that names it, the parameter, and what to do.
    """
    names: dict[nn.Parameter, str] = {}
    users: dict[nn.Parameter, set[int]] = {}
    for stage, layers in enumerate(stages):
        for _, layer, module in layers:
            for name, parameter in module.named_parameters():
                names.setdefault(parameter, f"{layer}.{name}")
                users.setdefault(parameter, set()).add(stage)
    ranks = schedule.placement_table.tolist()
    modules = [module for layers in stages for _, _, module in layers]
    given = {"loss_fn": loss, "optimizer": recipe.optimizer, "scheduler": recipe.scheduler}
    reached = reached_parameters([*modules, *given.values()])
    of_layer = iter(reached)
    for stage, layers in enumerate(stages):
        for index, layer, module in layers:
            for parameter in next(of_layer):
                elsewhere = users.get(parameter, {stage})
                if any(home[stage] not in [home[s] for s in elsewhere] for home in ranks):
                    raise UsageError(
                        f"Layer {index} ({layer}: {type(module).__name__}) reaches the parameter "
                        f"{names[parameter]} of another layer without having registered it, so its "
                        "rank would work on a copy that nobody trains. Make it an attribute of "
                        "the layer (self.weight = other.weight), which ties the two, or keep both "
                        "on one rank (partition=[...])."
                    )
    for (what, function), parameters in zip(given.items(), of_layer, strict=True):
        own = set(function.parameters()) if isinstance(function, nn.Module) else set()
        astray = [p for p in parameters if p in names and p not in own]
        if astray:
            raise UsageError(
                f"{what} reaches the parameter {names[astray[0]]} of the model, and on a rank it "
                f"would work on a copy that nobody trains. {_REMEDY[what]}"
            )


_REMEDY = {
    "loss_fn": (
        "Compute the loss from the output and the target alone: a penalty on weights belongs into "
        "the optimizer (weight_decay=...), or into the layer that has them."
    ),
    "optimizer": (
        "Let the factory use the parameters that it is given, such as lambda params: "
        "torch.optim.SGD(params, lr=0.1): each rank gives it its own."
    ),
    "scheduler": "Let the factory use the optimizer that it is given.",
}


def require_own_weights(schedule: Schedule, stages: list[list[Layer]]) -> None:
    """Refuse shared weights for stages that step at times of their own."""
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
