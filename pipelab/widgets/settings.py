"""What the lab is set to, as one value.

It knows the schedule it means, its costs, its prediction, and a line of text for itself.
"""

from dataclasses import dataclass, fields, replace
from statistics import fmean
from typing import Any

import numpy as np

from ..catalogue import build, entry
from ..catalogue.auto import find
from ..errors import UnknownName, UsageError
from ..schedule import Schedule
from ..simulator import Costs, Memory, simulate
from ..simulator.costs import PerStage
from ..timeline import Timeline
from .sizes import BATCH, LAYERS, SAMPLES, stage_memory

RECOMPUTE = ("none", "in-backward", "early")
MEMORY = ("activations", "bytes")
MODELS = ("auto", "mlp", "gpt")
HOLD = ("batch", "microbatch")
WHOLE = 100.0
"""With hold="batch": what one device alone takes for a batch, and the activations that it keeps."""

QUICK = 0.005
"""Effort of a search at every move of a slider: up to a few tenths of a second for the largest
settings.
"""


@dataclass(frozen=True)
class Settings:
    """One configuration of the lab; times in abstract units.

    What stays as it is when counts change is said by ``hold``. "batch": one model and one batch are
    cut. One device alone takes 100 for it and keeps 100 of activations; forward : input_grad :
    weight_grad divide the 100, and an action has its share / (stages × micro-batches).
    "microbatch": a stage takes the same for a micro-batch, so the batch grows with the
    micro-batches and the model with the stages.

    Attributes:
        schedule: a name of the catalogue.
        ranks: the devices.
        microbatches: the pieces of a batch.
        stages_per_rank: 0 for what is usual for the schedule; it has no effect where only one
            number is possible.
        forward: the cost of F of a stage.
        input_grad: that of I. A full backward costs I + W.
        weight_grad: that of W.
        latency: the time from rank to rank.
        overhead: what each action takes beside, however small it is.
        stage_costs: how much more or less than the others each stage costs, 1 where the list ends.
        recompute: whether forwards run again instead of keeping their activations.
        memory_limit: what ``auto`` may hold on a rank, in activations of one micro-batch through
            all of the rank's layers, or with hold="batch" in the batch's 100; 0 for no limit.
        memory: what is counted, "activations" or "bytes".
        model: of a real run, and of memory in bytes; "auto" is an MLP in a paced run and a GPT in a
            raw one.
        width: of that model.
        hold: what stays as it is, "batch" or "microbatch".
    """

    schedule: str = "1f1b"
    ranks: int = 4
    microbatches: int = 8
    stages_per_rank: int = 0
    forward: float = 1.0
    input_grad: float = 1.0
    weight_grad: float = 1.0
    latency: float = 0.0
    overhead: float = 0.0
    stage_costs: tuple[float, ...] = ()
    recompute: str = "none"
    memory_limit: float = 0.0
    memory: str = "activations"
    model: str = "auto"
    width: int = 64
    hold: str = "batch"

    def __post_init__(self) -> None:
        object.__setattr__(self, "stage_costs", tuple(self.stage_costs))

    @property
    def one_batch(self) -> bool:
        """Whether one model and one batch are held."""
        return self.hold == "batch"

    @property
    def per_rank(self) -> int | None:
        """Stages per rank to build with; None for the schedule's own number."""
        return None if entry(self.schedule).fixed else self.stages_per_rank or None

    def costs(self, stages: int) -> Costs:
        """The costs of a pipeline of so many stages; recomputing takes as long as a forward."""
        scale = (*self.stage_costs, *[1.0] * stages)[:stages]
        uneven = any(factor != 1 for factor in scale)
        share = 1.0
        if self.one_batch:
            whole = self.forward + self.input_grad + self.weight_grad
            share = WHOLE / (whole * fmean(scale) * stages * self.microbatches)

        def each(value: float) -> PerStage:
            lasting = tuple(value * share * factor + self.overhead for factor in scale)
            return lasting if uneven else lasting[0]

        return Costs(
            forward=each(self.forward),
            backward=each(self.input_grad + self.weight_grad),
            input_grad=each(self.input_grad),
            weight_grad=each(self.weight_grad),
            latency=self.latency,
            recompute=each(self.forward),
        )

    @property
    def limit_in_microbatches(self) -> float:
        """The memory limit in micro-batches through all of a rank's layers; 0 for none."""
        if self.one_batch:
            return self.memory_limit * self.ranks * self.microbatches / WHOLE
        return self.memory_limit

    @property
    def limit_in_batch(self) -> float:
        """The same in the batch's 100."""
        return self.limit_in_microbatches * WHOLE / (self.ranks * self.microbatches)

    def problem(self) -> str | None:
        """Why these counts are impossible for the schedule; None when they are fine."""
        found = entry(self.schedule)
        return found.problem(self.ranks, self.microbatches, self.per_rank, self._building_costs())

    def build(self) -> Schedule:
        """The schedule. Raises UsageError, which says what is possible."""
        costs = self._building_costs()
        if entry(self.schedule).searched:
            found = find(
                ranks=self.ranks,
                microbatches=self.microbatches,
                stages_per_rank=self.per_rank,
                costs=costs,
                memory_limit=self.limit_in_microbatches or None,
                effort=QUICK,
            )
            return found.schedule
        return build(
            self.schedule,
            ranks=self.ranks,
            microbatches=self.microbatches,
            stages_per_rank=self.per_rank,
            costs=costs,
        )

    def predict(self) -> Timeline:
        """The timeline to expect. Raises UsageError where the settings are impossible together."""
        return self.simulate(self.build())

    def simulate(self, schedule: Schedule) -> Timeline:
        """The timeline of an order with these costs, and memory in the settings' unit."""
        recompute = None if self.recompute == "none" else self.recompute
        memory = self._stage_memory(schedule.stages) if self.memory == "bytes" else None
        costs = self.costs(schedule.stages)
        timeline = simulate(schedule, costs, recompute=recompute, memory=memory)
        if self.one_batch and memory is None:
            share = WHOLE / (schedule.stages * self.microbatches)
            held, after = timeline.bytes_held * share, timeline.bytes_after * share
            return replace(
                timeline, bytes_held=held, bytes_after=after, memory_unit="% of the batch"
            )
        return timeline

    def _stage_memory(self, stages: int) -> Memory:
        """The bytes of a stage of the model that a real run trains."""
        layers, samples = work(self, stages)
        return stage_memory(self.model, self.width, layers / stages, samples / self.microbatches)

    def limits(self, timeline: Timeline) -> list[float]:
        """The memory limit on each rank, in the timeline's unit of memory; empty without one."""
        if not self.memory_limit:
            return []
        level = self.limit_in_microbatches * (timeline.schedule.stages_per_rank or 1)
        stages = timeline.schedule.stages
        if self.memory == "bytes":
            level *= float(np.max(self._stage_memory(stages).activations))
        elif self.one_batch:
            level *= WHOLE / (stages * self.microbatches)
        resident = np.zeros(timeline.schedule.ranks)
        for name, (held, _) in timeline.memory.items():
            if name != "activations":
                resident += np.maximum.reduceat(held, timeline.schedule.offsets[:-1])
        return [float(bytes_held) for bytes_held in resident + level]

    def _building_costs(self) -> Costs:
        """Costs for those schedules that are built for them; these have one copy of the model."""
        found = entry(self.schedule)
        return self.costs(self.ranks * (self.per_rank or found.stages_per_rank))

    @property
    def text(self) -> str:
        """A line that ``Settings.parse`` reads.

        It has the schedule's name, then what differs from the defaults.

        >>> Settings(ranks=6, latency=0.5).text
        '1f1b ranks=6 microbatches=8 latency=0.5'
        """
        parts = [self.schedule]
        for field in fields(Settings)[1:]:
            value = getattr(self, field.name)
            if value != field.default or field.name in ("ranks", "microbatches"):
                parts.append(f"{field.name}={_written(value)}")
        return " ".join(parts)

    @classmethod
    def parse(cls, text: str) -> "Settings":
        """Read such a line.

        >>> Settings.parse("gpipe ranks=2 stage_costs=1,2").stage_costs
        (1.0, 2.0)

        Raises UsageError, which says what is wrong with it.
        """
        if not text.split():
            raise UsageError(
                f"This line is empty. A line is a schedule and settings, such as: {cls().text}"
            )
        name, *parts = text.split()
        kinds = {field.name: type(field.default) for field in fields(cls)[1:]}
        values = {}
        for part in parts:
            key, equals, value = part.partition("=")
            if not equals:
                raise UsageError(
                    f"{part!r} is not a setting. A line is a schedule and settings, such as: "
                    f"{cls().text}"
                )
            if key not in kinds:
                raise UnknownName("setting", key, kinds)
            try:
                values[key] = _read(kinds[key], value)
            except ValueError:
                raise UsageError(f"{part!r}: {value!r} is not a {_NOUNS[kinds[key]]}.") from None
        return cls(entry(name).name, **values).valid()

    def valid(self) -> "Settings":
        """Return itself. Raises UsageError for a number or a word that can never be right."""
        for name in ("forward", "input_grad", "weight_grad"):
            check_cost(name, getattr(self, name))
        for factor in self.stage_costs:
            check_cost("stage_costs", factor)
        for name in ("latency", "overhead", "memory_limit"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name} is {getattr(self, name):g}; it is a number from 0.")
        words = {"recompute": RECOMPUTE, "memory": MEMORY, "model": MODELS, "hold": HOLD}
        for name, valid in words.items():
            if getattr(self, name) not in valid:
                raise UnknownName(name, getattr(self, name), valid)
        for name in ("ranks", "microbatches", "width"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"{name} is {getattr(self, name)}; it is a whole number, 1 or more."
                )
        return self

    def with_changes(self, **changes: Any) -> "Settings":
        """A copy with these fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """All settings by name, lists as lists."""
        values = {field.name: getattr(self, field.name) for field in fields(Settings)}
        return values | {"stage_costs": list(self.stage_costs)}


def work(settings: Settings, stages: int) -> tuple[int, int]:
    """(layers, samples in a batch) of a real run with these settings.

    With hold="batch" they are the same whatever the counts are, as far as they can be cut so.
    """
    samples = SAMPLES["gpt" if settings.model == "gpt" else "mlp"]
    if settings.one_batch:
        return max(LAYERS, stages), max(BATCH * samples, settings.microbatches)
    return stages, samples * settings.microbatches


def check_cost(name: str, value: float) -> None:
    """Check that a cost is a finite number above 0. Raises UsageError for any other."""
    if not 0 < value < float("inf"):
        raise UsageError(f"{name} is {value:g}; a cost is a number above 0.")


_NOUNS = {int: "whole number", float: "number", tuple: "list of numbers such as 1,2,1"}


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{number:.6g}" for number in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _read(kind: type, value: str) -> Any:
    if kind is tuple:
        return tuple(float(number) for number in value.split(","))
    return kind(value)
