"""The settings as traits, two-way with the front end.

In: a change of one. Out: what can be said about all of them before anything is drawn.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import anywidget
import traitlets

from ..catalogue import entry, names
from ..errors import UnknownName, UsageError
from ..plots.view import DEFINITIONS
from ..timeline import Timeline
from .nearest import offers
from .presets import PRESETS
from .settings import HOLD, MEMORY, MODELS, RECOMPUTE, WHOLE, Settings, check_cost

Proposal = dict[str, Any]
"""What traitlets asks a validator about."""
SETTINGS = tuple(field.name for field in fields(Settings))
LIMITS = {
    "ranks": (1, 16, 1),
    "microbatches": (1, 64, 1),
    "stages_per_rank": (1, 4, 1),
    "forward": (0.25, 4, 0.25),
    "input_grad": (0.25, 4, 0.25),
    "weight_grad": (0.25, 4, 0.25),
    "latency": (0, 4, 0.25),
    "overhead": (0, 1, 0.05),
    "memory_limit": (0, 16, 0.5),
    "width": (16, 512, 16),
}
"""Sliders: smallest value, largest, step.

A larger value given from Python moves the end of its slider.
"""


USUAL = ("schedule", "hold", "ranks", "microbatches", "forward", "backward", "latency")
CONTROLS = (*SETTINGS, "backward", "preset")
"""What ``show`` can name; the usual ones stand in the row, the others behind a button."""
NUMBERS = ("time_per_batch", "speed_up", *DEFINITIONS)
"""What ``numbers`` can name."""
LOOKS = ("paced", "show", "numbers", "schedules", "goals")
"""What a lab takes beside its settings."""


class Panel(anywidget.AnyWidget):
    """Every field of ``Settings`` as a trait.

    ``settings`` has them all as one value, ``text`` as one line. ``show`` names the controls that
    stand in the first row, ``numbers`` the big numbers (the usual three if empty), ``schedules``
    those on the menu (all if empty). ``catalogue`` is what there is to
    choose from, ``problems`` why some are impossible with these counts, by name. ``problem`` is why
    the settings themselves are, or "", and ``offers`` are the nearest that are possible. A subclass
    says in ``_settle`` what a change does.
    """

    schedule = traitlets.Unicode("1f1b").tag(sync=True)
    ranks = traitlets.Int(4, min=1).tag(sync=True)
    microbatches = traitlets.Int(8, min=1).tag(sync=True)
    stages_per_rank = traitlets.Int(0, min=0).tag(sync=True)
    forward = traitlets.Float(1.0).tag(sync=True)
    input_grad = traitlets.Float(1.0).tag(sync=True)
    weight_grad = traitlets.Float(1.0).tag(sync=True)
    latency = traitlets.Float(0.0, min=0).tag(sync=True)
    overhead = traitlets.Float(0.0, min=0).tag(sync=True)
    stage_costs = traitlets.List(traitlets.Float()).tag(sync=True)
    recompute = traitlets.Enum(RECOMPUTE, "none").tag(sync=True)
    memory_limit = traitlets.Float(0.0, min=0).tag(sync=True)
    memory = traitlets.Enum(MEMORY, "activations").tag(sync=True)
    model = traitlets.Enum(MODELS, "auto").tag(sync=True)
    width = traitlets.Int(64, min=1).tag(sync=True)
    hold = traitlets.Enum(HOLD, "batch").tag(sync=True)

    show = traitlets.List(traitlets.Enum(CONTROLS), list(USUAL)).tag(sync=True)
    numbers = traitlets.List(traitlets.Enum(NUMBERS)).tag(sync=True)
    schedules = traitlets.List(traitlets.Unicode()).tag(sync=True)
    defaults = traitlets.Dict(Settings().to_dict()).tag(sync=True)
    catalogue = traitlets.List(traitlets.Dict()).tag(sync=True)
    presets = traitlets.List(list(PRESETS)).tag(sync=True)
    problems = traitlets.Dict().tag(sync=True)
    limits = traitlets.Dict().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    offers = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(self, **settings: Any):
        self._lock = threading.RLock()
        self._quiet = False
        settings = with_backward(settings)
        unknown = [name for name in settings if not self.has_trait(name)]
        if unknown:
            raise UnknownName("setting", unknown[0], [*SETTINGS, "backward", *LOOKS])
        for name, valid in (("show", CONTROLS), ("numbers", NUMBERS)):
            strangers = [item for item in settings.get(name, ()) if item not in valid]
            if strangers:
                raise UnknownName(name, strangers[0], valid)
        super().__init__(**settings)
        self.catalogue = [_described(name) for name in names()]

    @traitlets.validate("schedule")
    def _known(self, proposal: Proposal) -> str:
        return entry(proposal["value"]).name

    @traitlets.validate("schedules")
    def _all_known(self, proposal: Proposal) -> list[str]:
        return [entry(name).name for name in proposal["value"]]

    @traitlets.validate("forward", "input_grad", "weight_grad")
    def _positive(self, proposal: Proposal) -> float:
        value: float = proposal["value"]
        check_cost(proposal["trait"].name, value)
        return value

    @traitlets.validate("stage_costs")
    def _all_positive(self, proposal: Proposal) -> list[float]:
        factors: list[float] = proposal["value"]
        for factor in factors:
            check_cost("stage_costs", factor)
        return factors

    @property
    def settings(self) -> Settings:
        """All settings as one value."""
        return Settings(**{name: getattr(self, name) for name in SETTINGS})

    @property
    def text(self) -> str:
        """A line that restores this configuration: ``pipelab.lab(text)``."""
        return self.settings.text

    @property
    def backward(self) -> float:
        """Cost of a full backward: input_grad + weight_grad. Setting it makes both half of it."""
        return self.input_grad + self.weight_grad

    @backward.setter
    def backward(self, value: float) -> None:
        check_cost("backward", value)
        self.apply(input_grad=value / 2, weight_grad=value / 2)

    def apply(self, **changes: Any) -> None:
        """Change several settings at once, so that the picture changes once."""
        with self._lock:
            before = self.settings
            with self._as_one_change():
                for name, value in changes.items():
                    setattr(self, name, value)
            if self.settings != before:
                self._settle()

    def preset(self, name: str) -> None:
        """Change to one of ``presets``; what is held stays.

        Raises UnknownName, which lists them.
        """
        if name not in PRESETS:
            raise UnknownName("preset", name, PRESETS)
        wanted = PRESETS[name]
        one_batch = self.settings.one_batch
        limit = wanted.limit_in_batch if one_batch else wanted.limit_in_microbatches
        self.apply(**wanted.to_dict() | {"hold": self.hold, "memory_limit": limit})

    def _predict(self) -> Timeline | None:
        """Predict with the settings as they are, or say what is wrong with them."""
        settings = self.settings
        self.limits = {name: self._limit(name) for name in LIMITS}
        self.problems = _problems(settings)
        timeline, problem = None, ""
        try:
            timeline = settings.predict()
        except UsageError as error:
            problem = str(error)
        self.problem = problem
        self.offers = offers(settings) if problem else []
        return timeline

    def _settle(self) -> None:
        raise NotImplementedError

    @contextmanager
    def _as_one_change(self) -> Iterator[None]:
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    def _limit(self, name: str) -> list[float]:
        low, high, step = self.limits.get(name, LIMITS[name])
        if name == "memory_limit":
            low, high, step = (0, WHOLE, 2.5) if self.settings.one_batch else LIMITS[name]
        return [low, max(high, getattr(self, name)), step]


def with_backward(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings in which a full backward is its two parts, each half of it unless it is given."""
    rest = {name: value for name, value in settings.items() if name != "backward"}
    if settings.get("backward") is None:
        return rest
    half = settings["backward"] / 2
    return {"input_grad": half, "weight_grad": half} | rest


def _described(name: str) -> dict[str, Any]:
    found = entry(name)
    return {
        "name": name,
        "title": found.title,
        "summary": found.summary,
        "stages_per_rank": found.stages_per_rank,
        "fixed": bool(found.fixed),
        "searched": found.searched,
        "from_costs": found.from_costs,
    }


def _problems(settings: Settings) -> dict[str, str]:
    """Why each schedule is impossible with these counts; those that are possible are left out."""
    found = {name: settings.with_changes(schedule=name).problem() for name in names()}
    return {name: problem for name, problem in found.items() if problem}
