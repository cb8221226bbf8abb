"""How to train: one object, the same for every rank."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import torch

from ...errors import UnknownName, UsageError
from ...simulator import Costs
from ...simulator.recompute import MODES
from .callables import require_takes

OptimizerFactory = Callable[..., torch.optim.Optimizer]
"""From the parameters of a rank to its optimizer; with an argument ``named``, from their names
too: (name in the caller's model, parameter) of each."""
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
        """Check each value, and what they need of each other. Numbers of numpy are numbers."""
        whole = isinstance(self.steps, Integral) and not isinstance(self.steps, bool)
        if not whole or self.steps < 1:
            raise UsageError(
                f"steps is {self.steps!r}; a run takes a whole number of steps, 1 or more."
            )
        object.__setattr__(self, "steps", int(self.steps))
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
        for name in ("scheduler", "clip"):
            if getattr(self, name) is not None:
                self.require_optimizer(name)
        for name, (arguments, how, extra) in _FACTORIES.items():
            factory = getattr(self, name)
            if factory is not None:
                require_takes(name, factory, arguments, how, extra)
        if self.seed is not None:
            if not isinstance(self.seed, Integral) or isinstance(self.seed, bool):
                raise UsageError(f"seed is {self.seed!r}; it is a whole number.")
            object.__setattr__(self, "seed", int(self.seed))
        for name in ("latency", "timeout", "clip"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        _require_simple("optimizer", self.optimizer, torch.optim.LBFGS, _LBFGS)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
        _require_simple("scheduler", self.scheduler, plateau, _PLATEAU)

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


_FACTORIES: dict[str, tuple[tuple[str, ...], str, str | None]] = {
    "optimizer": (
        ("parameters",),
        "pass a factory that takes the parameters of a rank, such as lambda params: "
        "torch.optim.SGD(params, lr=0.1)",
        "named",
    ),
    "scheduler": (
        ("optimizer",),
        "pass a factory that takes the optimizer of a rank, such as lambda optimizer: "
        "torch.optim.lr_scheduler.StepLR(optimizer, 10)",
        None,
    ),
}
_LBFGS = (
    "LBFGS runs forward and backward again within one optimizer step (it needs a closure), and a "
    "pipeline runs them once. Use SGD, Adam or another optimizer that takes one gradient."
)
_PLATEAU = (
    "ReduceLROnPlateau needs a metric at every step, and the ranks know none. Use a scheduler that "
    "goes by the number of steps, or call run again with another learning rate (resume=...)."
)


def require_simple_optimizer(made: object) -> None:
    """Raise UsageError for an optimizer or a scheduler that needs more than a gradient a step."""
    if isinstance(made, torch.optim.LBFGS):
        raise UsageError(_LBFGS)
    if isinstance(made, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise UsageError(_PLATEAU)


def _require_simple(what: str, factory: object, excluded: type, reason: str) -> None:
    """Refuse what can be seen before anything is made: the class itself, or a partial of it."""
    made = factory.func if isinstance(factory, functools.partial) else factory
    if isinstance(made, type) and issubclass(made, excluded):
        raise UsageError(f"{what}={made.__name__}: {reason}")


def _require_one_of(what: str, value: object, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise UnknownName(what, value, valid)


def _require_number(name: str, value: object, unit: str = "") -> None:
    if value is None:
        return
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) < math.inf:
        raise UsageError(f"{name} is {value!r}; it is a finite number{unit}, 0 or more.")
