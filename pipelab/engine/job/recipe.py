"""How to train: one object, the same for every rank."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from ...errors import UnknownName, UsageError
from ...simulator import Costs
from ...simulator.recompute import MODES

OptimizerFactory = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """How to train, as ``run`` takes it. The same object goes to every rank.

    evaluate: forwards alone; outputs: and bring home what the last layer returned.

    Raises UsageError, when it is made, for values that cannot work together.
    """

    steps: int = 1
    optimizer: OptimizerFactory | None = None
    scheduler: SchedulerFactory | None = None
    clip: float | None = None
    dtype: str = "float32"
    pace: Costs | tuple[float, ...] | None = None
    latency: float = 0
    recompute: str | None = None
    seed: int | None = None
    timeout: float | None = None
    evaluate: bool = False
    outputs: bool = False

    def __post_init__(self) -> None:
        """Check each value, and what they need of each other."""
        if not isinstance(self.steps, int) or self.steps < 1:
            raise UsageError(
                f"steps is {self.steps!r}; a run takes a whole number of steps, 1 or more."
            )
        _require_one_of("dtype", self.dtype, DTYPES)
        if self.recompute is not None:
            _require_one_of("way of recomputing", self.recompute, MODES)
        _require_number("latency", self.latency, " of seconds")
        _require_number("timeout", self.timeout, " of seconds")
        _require_number("clip", self.clip)
        if self.timeout == 0:
            raise UsageError(
                "timeout is 0; a wait needs some time. Leave it out for a sensible limit."
            )
        if self.clip == 0:
            raise UsageError(
                "clip is 0, which leaves nothing of the gradients; it is the largest norm they may "
                "have, such as 1.0."
            )
        if self.optimizer is not None and not callable(self.optimizer):
            raise UsageError(
                "optimizer is not callable; pass a factory that takes the parameters of a rank, "
                "such as lambda params: torch.optim.SGD(params, lr=0.1)."
            )
        if self.scheduler is not None and not callable(self.scheduler):
            raise UsageError(
                "scheduler is not callable; pass a factory that takes the optimizer of a rank, "
                "such as lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 10)."
            )
        for name in ("scheduler", "clip"):
            if getattr(self, name) is not None:
                self.require_optimizer(name)

    def require_optimizer(self, name: str) -> None:
        """Raise UsageError where an option is given that needs an optimizer, and there is none."""
        if self.optimizer is None:
            raise UsageError(
                f"{name} without an optimizer changes nothing: pass optimizer=… too, or leave "
                f"{name} out."
            )

    @property
    def limit(self) -> float:
        """Seconds that any wait of a rank may last; whoever watches it may know better."""
        return math.inf if self.timeout is None else self.timeout

    def comparable(self) -> dict[str, Any]:
        """What every process of torchrun must have alike; of a factory, whether it is given."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: callable(v) if callable(v) else v for name, v in values.items()}


def _require_one_of(what: str, value: object, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise UnknownName(what, value, valid)


def _require_number(name: str, value: object, unit: str = "") -> None:
    if value is None:
        return
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise UsageError(f"{name} is {value!r}; it is a finite number{unit}, 0 or more.")
