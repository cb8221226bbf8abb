"""``plan``: the layouts of so many GPUs, ranked; the reasons of those that cannot be."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import UsageError
from .candidates import candidates, require_fixable
from .emit import Emitted, emit
from .estimate import Estimate, fullest, predict
from .footprint import TIGHT, holdings, verdict
from .layout import CHOICES, Layout
from .machine import Machine, device_named
from .model import Transformer, model_named
from .reasons import Lost, Weighed, explain, needed, text_of
from .step_seconds import has_closed_form, schedule_of, simulated, stage_seconds, transfer_seconds

BAND = 0.10
"""Rows within this share of the best of their band cannot be told apart."""
SIMULATED, ACTIONS = 3, 200_000
"""How many of the best are simulated, if they have no more actions than this."""
SHOWN = (
    "tensor", "pipeline", "data", "stages_per_rank", "microbatch", "microbatches", "schedule",
    "recompute", "zero", "sequence_parallel",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One layout of a plan.

    band: 1 for the best. simulated: seconds of the step by the real schedule, action by action, for
    the first rows with a pipeline; else None.
    """

    layout: Layout
    estimate: Estimate
    band: int
    simulated: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The layout under "layout", the estimate's keys, and the rest."""
        layout = {name: getattr(self.layout, name) for name in SHOWN}
        found = {"layout": layout} | self.estimate.to_json() | {"band": self.band}
        return found if self.simulated is None else found | {"simulated": self.simulated}


@dataclass(frozen=True)
class Plan:
    """Rows, best first, of the layouts that fit; and what became of the others.

    rejected: how many, by reason. pipeline_needed: "answer" and "because". searched: layouts
    looked at. seconds_searching: how long that took.
    """

    model: Transformer
    machine: Machine
    gpus: int
    objective: str
    rows: list[Row]
    rejected: dict[str, int]
    pipeline_needed: dict[str, Any]
    searched: int
    seconds_searching: float
    base: Layout = field(repr=False)

    def why(self, row: int | Row | Layout | Mapping[str, Any]) -> Lost:
        """What a layout loses against the best, part by part.

        row: a row or its number from 0, a Layout, or the sizes in which it differs from the best.
        Raises UsageError for a layout that cannot be.
        """
        if isinstance(row, int):
            row = self._row(row)
        best = self.rows[0]
        if isinstance(row, Row):
            layout = row.layout
        elif isinstance(row, Layout):
            layout = row
        else:
            layout = replace(best.layout, **row)
        return explain(self.model, self.machine, self.gpus, layout, best.layout)

    def to(self, framework: str, row: int | Row = 0) -> Emitted:
        """A row as "megatron", "deepspeed", "torchtitan" or "pipelab" take it.

        Raises UnknownName, and UsageError for what a framework refuses.
        """
        found = self._row(row) if isinstance(row, int) else row
        return emit(framework, self.model, found.layout)

    def _row(self, number: int) -> Row:
        if not -len(self.rows) <= number < len(self.rows):
            raise UsageError(f"There is no row {number}; there are {len(self.rows)}.")
        return self.rows[number]

    def table(self, top: int = 10) -> str:
        """The first rows as text, the reasons, and whether a pipeline is needed."""
        return text_of(self, top)

    def to_json(self, top: int | None = None) -> dict[str, Any]:
        """What ``pipelab plan --json`` prints."""
        return {
            "rows": [row.to_json() for row in self.rows[:top]],
            "rejected": self.rejected,
            "pipeline_needed": self.pipeline_needed,
            "searched": self.searched,
            "seconds_searching": self.seconds_searching,
        }


def plan(  # noqa: PLR0913 - a field for each thing that all layouts share
    model: str | Transformer,
    *,
    device: str | Machine,
    gpus: int,
    batch: int,
    sequence: int | None = None,
    fix: Mapping[str, Any] | None = None,
    objective: str = "time",
    flash: bool | None = None,
    precision: str | None = None,
    gradients: str = "fp32",
    optimizer: str = "adam",
    overlap: str | None = None,
) -> Plan:
    """Rank the layouts of a training step on so many GPUs.

    Compared are all sizes of tensor, pipeline and data parallelism, stages per rank, micro-batches
    of 1 to 16 samples, 1F1B, ZB-H1 and interleaved 1F1B, recomputation and ZeRO; equal cuts only.
    With tensor parallelism goes sequence parallelism.

    Args:
        model: a Transformer, or the name of one.
        device: a Machine, the name of one, or what ``measure_machine`` found here.
        gpus: how many there are; every layout takes all.
        batch: samples of a step.
        sequence: tokens of a sample; default: the model's.
        fix: values that every layout has, by name, such as {"tensor": 8}.
        objective: "time", or "memory": bytes of the fullest rank.
        flash: attention that keeps no scores; default: no, on a measured machine yes.
        precision: "fp16", "bf16" or "fp32"; default: "bf16", on the V100 "fp16", on a measured
            machine "fp32".
        gradients: "fp32" or "same".
        optimizer: "adam" or "sgd".
        overlap: traffic that runs beside computation: "none", "data", "tensor" or "all"; default:
            "data", on a measured machine "none".

    Returns:
        A Plan.

    Raises:
        UsageError: no layout fits, with the number of GPUs on which one does.

    >>> found = plan("gpt-1.3b", device="a100-80", gpus=8, batch=64, flash=True)
    >>> found.rows[0].layout.gpus, found.rows[0].band, found.pipeline_needed["answer"]
    (8, 1, 'no')
    """
    began = time.perf_counter()
    shape = model_named(model) if isinstance(model, str) else model
    machine = device_named(device) if isinstance(device, str) else device
    if sequence is not None:
        shape = replace(shape, sequence=sequence)
    fix = dict(fix or {})
    require_fixable(fix)
    _require(gpus, batch, objective)
    chosen = {"flash": flash, "precision": precision, "overlap": overlap}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    options = machine.defaults() | chosen
    base = Layout(batch=batch, gradients=gradients, optimizer=optimizer, **options)
    for name in ("precision", "gradients", "optimizer", "overlap"):
        if getattr(base, name) not in CHOICES[name]:
            said = " | ".join(map(str, CHOICES[name]))
            raise UsageError(f"{name} is {getattr(base, name)!r}; it is {said}.")
    rejected: Counter[str] = Counter()
    found = _weighed(shape, machine, gpus, base, fix, rejected)
    if all(one.estimate is None for one in found):
        raise UsageError(_nowhere(shape, machine, gpus, base, fix, found, rejected))
    searched = len(found) + rejected.total()
    too_large = sum(one.estimate is None for one in found)
    if too_large:
        rejected["does not fit into the memory"] = too_large
    rows = _banded(found, objective)
    for place, row in enumerate(rows[:SIMULATED]):
        rows[place] = _checked(shape, machine, row)
    return Plan(
        shape,
        machine,
        gpus,
        objective,
        rows,
        dict(rejected.most_common()),
        needed(found, machine),
        searched,
        time.perf_counter() - began,
        base,
    )


def _require(gpus: int, batch: int, objective: str) -> None:
    for name, value in (("gpus", gpus), ("batch", batch)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{name} is {value!r}; it is a whole number, 1 or more.")
    if objective not in ("time", "memory"):
        raise UsageError(f"objective is {objective!r}; it is time or memory.")


def _weighed(
    model: Transformer,
    machine: Machine,
    gpus: int,
    base: Layout,
    fix: Mapping[str, Any],
    rejected: Counter[str],
) -> list[Weighed]:
    """All that are possible; the seconds only of those that fit."""
    found = []
    for layout in candidates(model, machine, gpus, base, fix, rejected):
        if has_closed_form(layout):
            held = fullest(model, layout, holdings(model, layout, None))["total"]
            if verdict(held, machine.memory) == "no":
                found.append(Weighed(layout, held, None))
                continue
        estimate = predict(model, machine, layout)
        fits = estimate.fits != "no"
        found.append(Weighed(layout, estimate.bytes["total"], estimate if fits else None))
    return found


def _banded(found: list[Weighed], objective: str) -> list[Row]:
    """Best first; a row more than 10 % above the best of its band begins the next."""
    fitting = [(one.layout, one.estimate) for one in found if one.estimate is not None]

    def size(one: tuple[Layout, Estimate]) -> tuple[float, float]:
        both = one[1].seconds, float(one[1].bytes["total"])
        return both if objective == "time" else both[::-1]

    rows: list[Row] = []
    band, best = 0, 0.0
    for one in sorted(fitting, key=size):
        value = size(one)[0]
        if band == 0 or value > (1 + BAND) * best:
            band, best = band + 1, value
        rows.append(Row(*one, band))
    return rows


def _checked(model: Transformer, machine: Machine, row: Row) -> Row:
    """The row with its real schedule simulated, if it has one that is not too long."""
    layout = row.layout
    if layout.pipeline == 1 or 3 * layout.stages * layout.microbatches > ACTIONS:
        return row
    stages = stage_seconds(model, machine, layout)
    transfer = transfer_seconds(model, machine, layout)
    real = simulated(layout, schedule_of(layout), stages, transfer).makespan
    rest = row.estimate.seconds_by_part["data"] + row.estimate.seconds_by_part["optimizer"]
    return replace(row, simulated=real + rest)


def _nowhere(
    model: Transformer,
    machine: Machine,
    gpus: int,
    base: Layout,
    fix: Mapping[str, Any],
    found: list[Weighed],
    rejected: Counter[str],
) -> str:
    """Why there is no row, and what would work."""
    if not found:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in rejected.most_common())
        fixed = ", ".join(f"{name}={value}" for name, value in fix.items())
        return f"No layout of {_gpus(gpus)} is possible: " + (
            f"{reasons}."
            if reasons
            else f"nothing has what is fixed ({fixed}). Sizes multiply to {gpus}; tensor divides "
            f"the {model.heads} heads, and pipeline × stages_per_rank the {model.layers} layers."
        )
    least = min(one.held for one in found) / 1e9
    text = (
        f"{model.name} fits into no layout of {_gpus(gpus)}: the least takes {least:.1f} GB on "
        f"each, and {TIGHT:.0%} of {machine.memory:g} GB can be used"
    )
    for more in range(1, 15):
        count = gpus * 2**more
        frugal = {"microbatch": 1} | dict(fix)
        many = candidates(model, machine, count, base, frugal, Counter())
        if any(_fits(model, machine, layout) for layout in many):
            return f"{text}; {count} GPUs would do."
    return f"{text}; no number of GPUs up to {gpus * 2**14} would do with this batch."


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _fits(model: Transformer, machine: Machine, layout: Layout) -> bool:
    if not has_closed_form(layout):
        return predict(model, machine, layout).fits != "no"
    held = fullest(model, layout, holdings(model, layout, None))["total"]
    return verdict(held, machine.memory) != "no"
