"""What a question is, whatever its kind, and what is said about an answer to it.

A kind has the same few methods: what the front end needs in order to ask (``asked``, which never
holds the answer), whether a value can be one (``read``), how near it is (``right``, ``words``,
``hint``), and a picture of guess and truth.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import UsageError
from . import figures

NEAR = 0.05
"""A number counts as right within this share of itself."""


@dataclass(frozen=True)
class Number:
    """A number on an axis from low to high.

    compute: gives the answer. light: traits that the lab beneath gets when it opens.
    """

    text: str
    compute: Callable[[], float]
    why: str
    what_if: str = ""
    unit: str = ""
    low: float = 0.0
    high: float = 100.0
    light: Mapping[str, Any] = field(default_factory=dict)
    kind: ClassVar[str] = "number"

    def asked(self) -> dict[str, Any]:
        """The axis and its unit."""
        step = (self.high - self.low) / 200
        return {"unit": self.unit, "low": self.low, "high": self.high, "step": step}

    def truth(self) -> float:
        """The number, computed."""
        return float(self.compute())

    def read(self, value: Any) -> Any:
        """A finite number."""
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise UsageError(f"{value!r} is not a number; this question asks for one.")
        return float(value)

    def right(self, value: float) -> bool:
        """Within 5 % of the answer, or as near as one can see on the axis."""
        truth = self.truth()
        seen = (self.high - self.low) / 100
        return abs(value - truth) <= max(NEAR * abs(truth), seen)

    def words(self, value: float) -> str:
        """The distance, in the question's unit."""
        truth = self.truth()
        said = f"It is {self._with_unit(truth)}."
        if self.right(value):
            return f"That is it. {said}"
        way = "high" if value > truth else "low"
        off = self._with_unit(abs(value - truth))
        return f"You said {self._with_unit(value)}, {off} too {way}. {said}"

    def hint(self, value: float) -> str:
        """Too high or too low."""
        truth = self.truth()
        far = "far " if abs(value - truth) > (self.high - self.low) / 4 else ""
        return f"{far}too {'high' if value > truth else 'low'}.".capitalize()

    def picture(self, tries: Sequence[float], machine: float | None = None) -> str:
        """A bar each for the guesses, the law and the machine."""
        rows = figures.rows_of(tries, self.truth(), machine)
        return figures.bars(rows, low=self.low, high=self.high, unit=self.unit)

    def _with_unit(self, value: float) -> str:
        return f"{figures.short(value)} {self.unit}".strip()


@dataclass(frozen=True)
class Option:
    """One of the answers to choose from.

    misconception: what somebody believes who takes it; empty for the right one.
    """

    text: str
    misconception: str = ""


@dataclass(frozen=True)
class Choice:
    """Three answers to choose from; each wrong one is a known misconception."""

    text: str
    options: tuple[Option, ...]
    why: str
    what_if: str = ""
    light: Mapping[str, Any] = field(default_factory=dict)
    kind: ClassVar[str] = "choice"

    def asked(self) -> dict[str, Any]:
        """The answers, without what is wrong with them."""
        return {"options": [option.text for option in self.options]}

    def truth(self) -> int:
        """The place of the right answer."""
        return next(i for i, option in enumerate(self.options) if not option.misconception)

    def read(self, value: Any) -> Any:
        """The place of an answer, from 0."""
        if isinstance(value, bool) or value not in range(len(self.options)):
            raise UsageError(f"{value!r} is not one of the answers 0 to {len(self.options) - 1}.")
        return int(value)

    def right(self, value: int) -> bool:
        """Whether it is the right answer."""
        return value == self.truth()

    def words(self, value: int) -> str:
        """The misconception behind a wrong answer, and the right one."""
        if self.right(value):
            return "That is it."
        right = self.options[self.truth()].text
        return f"{self.options[value].misconception} The answer is: {right}"

    def hint(self, value: int) -> str:
        """The misconception behind the answer."""
        return self.options[value].misconception

    def picture(self, tries: Sequence[int], machine: Any = None) -> str:  # noqa: ARG002 - as others
        """The answers; what was chosen and what is right are marked."""
        return figures.choices([option.text for option in self.options], tries, self.truth())


@dataclass(frozen=True)
class Curve:
    """A value for each x, drawn as a curve; the x are evenly spaced whatever they are."""

    text: str
    xs: tuple[float, ...]
    compute: Callable[[], Sequence[float]]
    x_label: str
    y_label: str
    why: str
    what_if: str = ""
    unit: str = ""
    low: float = 0.0
    high: float = 100.0
    light: Mapping[str, Any] = field(default_factory=dict)
    kind: ClassVar[str] = "curve"

    def asked(self) -> dict[str, Any]:
        """The axes."""
        names = ("x_label", "y_label", "unit", "low", "high")
        return {name: getattr(self, name) for name in names} | {"xs": list(self.xs)}

    def truth(self) -> list[float]:
        """The curve, computed."""
        return [float(value) for value in self.compute()]

    def read(self, value: Any) -> Any:
        """A finite number for each x."""
        numbers = list(value) if isinstance(value, list | tuple) else []
        fine = [isinstance(y, int | float) and math.isfinite(y) for y in numbers]
        if len(numbers) != len(self.xs) or not all(fine):
            raise UsageError(f"This curve has {len(self.xs)} points, a number for each.")
        return [float(y) for y in numbers]

    def right(self, value: list[float]) -> bool:
        """On average within 5 % of the axis."""
        return self._distance(value) <= NEAR * (self.high - self.low)

    def words(self, value: list[float]) -> str:
        """The mean distance, and where it is largest."""
        mean = f"{figures.short(self._distance(value))} {self.unit}".strip()
        if self.right(value):
            return f"That is it: on average {mean} from the curve."
        off = [y - t for y, t in zip(value, self.truth(), strict=True)]
        worst = max(range(len(off)), key=lambda i: abs(off[i]))
        way = "high" if off[worst] > 0 else "low"
        most = f"{figures.short(abs(off[worst]))} {self.unit}".strip()
        return (
            f"On average {mean} from the curve; most at {self.x_label} = {self.xs[worst]:g}: "
            f"{most} too {way}."
        )

    def hint(self, value: list[float]) -> str:
        """Where it is farthest, and which way; not how far."""
        off = [y - t for y, t in zip(value, self.truth(), strict=True)]
        worst = max(range(len(off)), key=lambda i: abs(off[i]))
        way = "high" if off[worst] > 0 else "low"
        return f"Too {way}, most of all at {self.x_label} = {self.xs[worst]:g}."

    def picture(
        self, tries: Sequence[list[float]], machine: Mapping[float, float] | None = None
    ) -> str:
        """The guesses, the law, and what a machine measured (by x) on the same axes."""
        series = figures.rows_of(tries, self.truth(), None)
        lines = [
            figures.Line(name, dict(zip(self.xs, ys, strict=True)), look)
            for name, ys, look in series
        ]
        if machine:
            lines.append(figures.Line("your machine", dict(machine), "machine", points=True))
        return figures.lines(
            lines, x_label=self.x_label, y_label=self.y_label, unit=self.unit, low=self.low,
            high=self.high,
        )  # fmt: skip

    def _distance(self, value: list[float]) -> float:
        pairs = zip(value, self.truth(), strict=True)
        return sum(abs(y - t) for y, t in pairs) / len(self.xs)


@dataclass(frozen=True)
class Order:
    """Actions to put in order, by dragging."""

    text: str
    items: tuple[str, ...]
    compute: Callable[[], Sequence[str]]
    why: str
    what_if: str = ""
    light: Mapping[str, Any] = field(default_factory=dict)
    kind: ClassVar[str] = "order"

    def asked(self) -> dict[str, Any]:
        """The actions, as they lie before."""
        return {"items": list(self.items)}

    def truth(self) -> list[str]:
        """The right order, computed."""
        return list(self.compute())

    def read(self, value: Any) -> Any:
        """All actions, each once."""
        items = list(value) if isinstance(value, list | tuple) else []
        if sorted(map(str, items)) != sorted(self.items):
            raise UsageError(f"An order has each of {', '.join(self.items)} once.")
        return items

    def right(self, value: list[str]) -> bool:
        """Whether all are in their place."""
        return value == self.truth()

    def words(self, value: list[str]) -> str:
        """How many are in their place, and the first that is not."""
        if self.right(value):
            return "That is it."
        truth = self.truth()
        fine = sum(a == b for a, b in zip(value, truth, strict=True))
        first = next(i for i, (a, b) in enumerate(zip(value, truth, strict=True)) if a != b)
        return (
            f"{fine} of {len(truth)} are in their place. The first that differs is step {first}: "
            f"you have {value[first]}, and {truth[first]} can run there."
        )

    def hint(self, value: list[str]) -> str:
        """The first place that differs; not what belongs there."""
        pairs = enumerate(zip(value, self.truth(), strict=True))
        first = next(i for i, (a, b) in pairs if a != b)
        return f"Right up to step {first}; there another action should run."

    def picture(self, tries: Sequence[list[str]], machine: Any = None) -> str:  # noqa: ARG002
        """The guesses and the truth as rows of actions."""
        return figures.rows(figures.rows_of(tries, self.truth(), None))


Question = Number | Choice | Curve | Order
