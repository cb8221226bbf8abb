"""What a lesson asks for in a lab: goals that tick themselves when the lab meets them."""

import math
import operator
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ..course import goals as course_goals
from ..course import store
from ..errors import UsageError

COMPARE = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
CLOSE = 1e-6
"""Numbers that differ by so little of themselves are equal."""
_CONDITION = re.compile(r"\s*(<=|>=|<|>|=)\s*(.+?)\s*$")


@dataclass(frozen=True)
class Goal:
    """One thing to reach in a lab.

    Attributes:
        text: what is asked for, as a sentence.
        when: what must hold, by name: a value, or a comparison such as "< 0.2". Names are settings
            of the lab, numbers of its prediction as the page has them (percentages as shares from 0
            to 1, peak_memory of one batch too), pins (how many) and run (the state of the real run:
            "done").
        how: settings that meet it, for "show me how"; none where a person must do it.
        why: a sentence shown once it is reached.

    Raises UsageError for a goal without conditions.

    >>> goal = Goal("Bring the bubble under 20 %.", {"bubble_fraction": "< 0.2"})
    >>> goal.met({"bubble_fraction": 0.158})
    True
    """

    text: str
    when: Mapping[str, Any]
    how: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""

    def __post_init__(self) -> None:
        if not self.when:
            raise UsageError(f"The goal {self.text!r} has no conditions: it would tick at once.")

    @property
    def conditions(self) -> list[list[Any]]:
        """[name, operator, value] of each condition."""
        return [[name, *_condition(value)] for name, value in self.when.items()]

    def met(self, facts: Mapping[str, Any]) -> bool:
        """Whether facts, by name, meet all conditions. What is not there meets none."""
        return all(_holds(facts.get(name), sign, value) for name, sign, value in self.conditions)


class GoalsWidget(anywidget.AnyWidget):
    """A widget with goals, one at a time: ``goals`` are dicts with text, when, how, why, reached.

    ``goal`` is the index of the current one. The front end ticks it as well, without the kernel.
    ``goals="02-fill"`` takes those of the course; which were reached is then kept beside the
    notebook, under that slug.
    """

    goals: Any = traitlets.List().tag(sync=True)
    goal = traitlets.Int(0, min=0).tag(sync=True)

    def __init__(self, **settings: Any):
        slug = settings.get("goals")
        if isinstance(slug, str):
            place = store.place()
            before = store.entry(store.read(place), slug).get("reached", [])
            found = [_told(goal) for goal in course_goals(slug)]
            known = [goal | {"reached": i in before} for i, goal in enumerate(found)]
            left = [i for i, goal in enumerate(known) if not goal["reached"]]
            settings = settings | {"goals": known, "goal": left[0] if left else len(known) - 1}
        super().__init__(**settings)
        if isinstance(slug, str):
            self.observe(lambda _: self._keep_goals(place, slug), names=["goals"])

    @traitlets.validate("goals")
    def _as_data(self, proposal: dict[str, Any]) -> list[dict[str, Any]]:
        return [_told(goal) for goal in proposal["value"]]

    @traitlets.observe("goal")
    def _turned(self, _change: dict[str, Any]) -> None:
        """The next goal may be met already."""
        self._tick()

    def show_goal(self) -> None:
        """Set the lab up so that the current goal is met.

        Raises UsageError where a person must do it.
        """
        how = self.goals[self.goal]["how"] if self.goals else None
        if not how:
            raise UsageError("This goal cannot be shown: it is yours to reach.")
        self.apply(**how)

    def apply(self, **changes: Any) -> None:
        """Change several settings at once."""
        raise NotImplementedError

    @property
    def facts(self) -> dict[str, Any]:
        """What goals can be about."""
        raise NotImplementedError

    def _keep_goals(self, place: Path, slug: str) -> None:
        """Store what is reached, where something is."""
        reached = [bool(goal["reached"]) for goal in self.goals]
        if any(reached):
            store.keep_reached(place, slug, reached)

    def _tick(self) -> None:
        """Mark the current goal as reached, if it is."""
        if self.goal >= len(self.goals) or self.goals[self.goal]["reached"]:
            return
        current = self.goals[self.goal]
        facts = self.facts
        if all(_holds(facts.get(name), sign, value) for name, sign, value in current["when"]):
            self.goals = [
                goal | {"reached": goal["reached"] or goal is current} for goal in self.goals
            ]


def _told(goal: "Goal | Mapping[str, Any]") -> dict[str, Any]:
    """A goal as data, its conditions taken apart."""
    if isinstance(goal, Goal):
        return asdict(goal) | {"when": goal.conditions, "how": dict(goal.how), "reached": False}
    if not isinstance(goal, Mapping) or not {"text", "when"} <= set(goal):
        raise UsageError(f"{goal!r} is not a goal: give pipelab.widgets.Goal(text, when).")
    if isinstance(goal["when"], Mapping):
        known = {name: goal[name] for name in ("text", "when", "how", "why") if name in goal}
        return _told(Goal(**known)) | {"reached": bool(goal.get("reached", False))}
    return dict(goal)


def _condition(value: Any) -> tuple[str, Any]:
    """(operator, value) of what stands in ``when``."""
    found = _CONDITION.match(value) if isinstance(value, str) else None
    if not found:
        return "=", value
    sign, text = found.groups()
    try:
        return sign, float(text)
    except ValueError:
        return sign, text


def _holds(fact: Any, sign: str, value: Any) -> bool:
    if fact is None:
        return False
    if all(isinstance(one, int | float) for one in (fact, value)):
        fact = value if math.isclose(fact, value, rel_tol=CLOSE) else fact
    return bool(COMPARE[sign](fact, value))
