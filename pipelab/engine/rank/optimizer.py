"""From a user's factory to the optimizer of a rank or of one stage; and its state by names."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...errors import UsageError
from ..job.recipe import OptimizerFactory, SchedulerFactory, require_simple_optimizer

_WHO = ("params", "param_names")
"""What of a group is no option."""
Named = list[tuple[str, nn.Parameter]]
"""Parameters with their names in the caller's model."""


def make_optimizer(factory: OptimizerFactory, named: Named) -> torch.optim.Optimizer | None:
    """The optimizer of some parameters; None where there is nothing that the factory would train.

    Raises UsageError for anything but an optimizer, for one that holds parameters it was not given,
    and for one that needs a closure.
    """
    if not named:
        return None
    try:
        optimizer = _call(factory, named)
    except ValueError as error:
        if "empty parameter list" in str(error):
            return None
        raise _failed("optimizer", error) from error
    except Exception as error:
        raise _failed("optimizer", error) from error
    if optimizer is None and not any(parameter.requires_grad for _, parameter in named):
        return None
    _require_made("optimizer", optimizer)
    require_simple_optimizer(optimizer)
    given = {parameter for _, parameter in named}
    for group in optimizer.param_groups:
        if any(parameter not in given for parameter in group["params"]):
            raise UsageError(
                "The optimizer holds parameters that its factory was not given, so this rank's own "
                "would not be trained. Let the factory use its argument: lambda params: "
                "torch.optim.SGD(params, lr=0.1)."
            )
    return optimizer


def make_scheduler(factory: SchedulerFactory, optimizer: torch.optim.Optimizer) -> Any:
    """The scheduler of an optimizer. Raises UsageError for anything else, or one with a metric."""
    try:
        scheduler = factory(optimizer)
    except Exception as error:
        raise _failed("scheduler", error) from error
    _require_made("scheduler", scheduler)
    require_simple_optimizer(scheduler)
    return scheduler


def _failed(what: str, error: Exception) -> UsageError:
    return UsageError(
        f"The {what} factory raised {type(error).__name__}: {error}. One that works: "
        f"{what}={_EXAMPLE[what]}."
    )


def _require_made(what: str, made: object) -> None:
    if isinstance(made, type) or not callable(getattr(made, "step", None)):
        returned = f"the class {made.__name__}" if isinstance(made, type) else repr(made)
        raise UsageError(
            f"The {what} factory returned {returned}, which is no {what}: "
            f"{what}={_EXAMPLE[what]}. A function needs a return."
        )


_EXAMPLE = {
    "optimizer": "lambda params: torch.optim.SGD(params, lr=0.1)",
    "scheduler": "lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 10)",
}


def _call(factory: OptimizerFactory, named: Named) -> Any:
    """Give a factory the parameters, and those that ask for it their names too."""
    wanted = _arguments(factory)
    parameters = [parameter for _, parameter in named]
    if "named" not in wanted:
        return factory(parameters)
    if wanted[0] == "named":
        return factory(named)
    return factory(parameters, named=named)


def _arguments(factory: Callable) -> list[str]:
    try:
        return list(inspect.signature(factory).parameters)
    except ValueError:  # written in C, some have none
        return []


# A state goes by the names of the parameters: a checkpoint does not depend on how the model is cut.


def state_of(
    optimizers: list[torch.optim.Optimizer], schedulers: list[Any], names: dict[nn.Parameter, str]
) -> dict:
    """What a checkpoint keeps.

    "state": name -> what the optimizer keeps of it; "groups": options with the names; "scheduler":
    its state. Parameters without a name are left out.
    """
    state: dict[str, Any] = {}
    groups: list[dict] = []
    for optimizer in optimizers:
        for g, group in enumerate(optimizer.param_groups):
            mine = [p for p in group["params"] if p in names]
            state |= {names[p]: optimizer.state[p] for p in mine if p in optimizer.state}
            if g == len(groups):
                options = {k: v for k, v in group.items() if k not in _WHO}
                groups.append(options | {"params": []})
            groups[g]["params"] += [names[p] for p in mine]
    scheduler = schedulers[0].state_dict() if schedulers else None
    return {"state": state, "groups": groups, "scheduler": scheduler}


def load_state(
    optimizer: torch.optim.Optimizer,
    saved: dict,
    names: dict[nn.Parameter, str],
    own_part: Callable[[str, torch.Tensor], torch.Tensor],
) -> None:
    """Give one optimizer the state of its parameters.

    own_part: of a whole tensor, what this rank keeps. Raises UsageError for other groups.
    """
    now, index = optimizer.state_dict(), 0
    had, has = len(saved["groups"]), len(now["param_groups"])
    if had != has:
        raise UsageError(
            f"the checkpoint was saved with {had} {'group' if had == 1 else 'groups'} of "
            f"parameters, and the optimizer factory makes {has}: resume with the factory "
            "that it was saved with"
        )
    for group, old in zip(now["param_groups"], saved["groups"], strict=True):
        group |= {k: v for k, v in old.items() if k not in _WHO}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            if name in saved["state"]:
                now["state"][index] = {
                    k: own_part(name, v) if isinstance(v, torch.Tensor) else v
                    for k, v in saved["state"][name].items()
                }
            index += 1
    optimizer.load_state_dict(now)
