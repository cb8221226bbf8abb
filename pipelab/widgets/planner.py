"""``planner``: a model, a device and so many GPUs, and which layout they should have.

In: switches. Out: the plan's best rows as a table, why the others lose, and one row's mesh and
timeline; the kernel plans and draws at every change.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import traitlets

from ..errors import UnknownName, UsageError
from ..layout.planner import DEVICES, MODELS, Machine, Plan, plan
from ..layout.planner.candidates import SCHEDULES, divisors
from ..layout.planner.layout import CHOICES
from ..plots.bundle import bundle
from .memory import WORDS as MORE_WORDS
from .planner_picture import crossings, row_svg, timeline_svg, timeline_words
from .planner_table import table_svg
from .planner_words import big_numbers, needed, reasons, rejected
from .styles import styles
from .switches import SwitchesWidget

_HERE = Path(__file__).parent
FREE = "free"
"""Of a switch: the planner chooses."""
USUAL = "usual"
"""Of the network: as the device's cluster usually has it."""
NETWORKS = (1, 3, 6, 12.5, 25, 50, 100)
"""GB/s of each GPU to other nodes."""
FIXES = ("tensor", "pipeline", "schedule", "recompute", "zero")
"""What can be fixed, or left to the planner."""
SWITCHES = (
    "model", "device", "network", "gpus", "batch", *FIXES, "flash", "precision", "objective",
)  # fmt: skip
"""What can be switched, in order."""
POWERS = tuple(2**i for i in range(14))
PRECISIONS = [str(name) for name in CHOICES["precision"]]
TOP = 10
"""Rows that are always shown."""
LABELS = {
    "gpus": "GPUs",
    "network": "network, GB/s",
    "zero": "ZeRO",
    "flash": "attention",
    "objective": "best is",
}
WORDS: dict[Any, str] = {
    **MORE_WORDS,
    **{name: name for name in PRECISIONS},
    "interleaved-1f1b": "interleaved",
    True: "flash",
    False: "plain",
    "time": "least time",
    "memory": "least memory",
}


class PlannerView(SwitchesWidget):
    """The layouts of a model on so many GPUs, ranked; make one with ``pipelab.planner``.

    Every switch is a trait: ``model``, ``device``, ``network`` ("usual", or GB/s of each GPU to
    other nodes), ``gpus``, ``batch``, ``flash``, ``precision``, ``objective``, and ``tensor``,
    ``pipeline``, ``schedule``, ``recompute``, ``zero``, which are "free" or fixed. ``row`` is the
    chosen row, from 0. ``plan`` is the ``Plan``; ``problem`` says why there is none.
    """

    names = SWITCHES
    picks = ("row",)

    _esm = bundle(_HERE / "planner.js")
    _css = styles() + "".join(
        (_HERE / name).read_text(encoding="utf-8") for name in ("memory.css", "planner.css")
    )

    model = traitlets.Enum(list(MODELS), "llama-7b").tag(sync=True)
    device = traitlets.Enum(list(DEVICES), "a100-80").tag(sync=True)
    network = traitlets.Any(USUAL).tag(sync=True)
    gpus = traitlets.Int(8, min=1).tag(sync=True)
    batch = traitlets.Int(64, min=1).tag(sync=True)
    tensor = traitlets.Any(FREE).tag(sync=True)
    pipeline = traitlets.Any(FREE).tag(sync=True)
    schedule = traitlets.Any(FREE).tag(sync=True)
    recompute = traitlets.Any(FREE).tag(sync=True)
    zero = traitlets.Any(FREE).tag(sync=True)
    flash = traitlets.Bool(default_value=False).tag(sync=True)
    precision = traitlets.Enum(PRECISIONS, "bf16").tag(sync=True)
    objective = traitlets.Enum(["time", "memory"], "time").tag(sync=True)
    row = traitlets.Int(0, min=0).tag(sync=True)

    switches = traitlets.List(traitlets.Dict()).tag(sync=True)
    show = traitlets.List(traitlets.Enum(SWITCHES)).tag(sync=True)
    rows = traitlets.Int(0).tag(sync=True)
    numbers = traitlets.List(traitlets.Dict()).tag(sync=True)
    said = traitlets.Unicode("").tag(sync=True)
    table = traitlets.Unicode("").tag(sync=True)
    picture = traitlets.Unicode("").tag(sync=True)
    timeline = traitlets.Unicode("").tag(sync=True)
    about = traitlets.Unicode("").tag(sync=True)
    why = traitlets.Dict({"title": "", "parts": "", "lead": "", "lines": []}).tag(sync=True)
    rejected = traitlets.List(traitlets.Unicode()).tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, options: dict[str, Any], **traits: Any):
        self._options = options
        self._plan: Plan | None = None
        super().__init__(**traits)
        self.observe(lambda _: self._chosen(), names=["row"])

    @traitlets.validate("schedule", "recompute", "zero")
    def _known(self, proposal: dict[str, Any]) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        known = _values(name, value)
        if value not in known:
            raise UnknownName(name, str(value), list(map(str, known)))
        return value

    @traitlets.validate("tensor", "pipeline")
    def _size(self, proposal: dict[str, Any]) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        if value != FREE and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UsageError(f"{name} is {value!r}; it is a whole number, 1 or more, or {FREE!r}.")
        return value

    @traitlets.validate("network")
    def _speed(self, proposal: dict[str, Any]) -> Any:
        value = proposal["value"]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value != USUAL and not (number and math.isfinite(value) and value > 0):
            raise UsageError(f"network is {value!r}; it is GB/s, above 0, or {USUAL!r}.")
        return value

    @property
    def machine(self) -> Machine:
        """The device, with the network that is switched on."""
        device = DEVICES[self.device]
        if self.network == USUAL:
            return device
        return replace(device, network_bandwidth=self.network)

    @property
    def plan(self) -> Plan:
        """What ``pipelab.plan`` says of the switches. Raises UsageError where nothing fits."""
        if self.problem or self._plan is None:
            raise UsageError(self.problem)
        return self._plan

    @property
    def facts(self) -> dict[str, Any]:
        """What goals can be about.

        The switches and the row; of the best row seconds, mfu, held (GB of the fullest GPU) and
        fits; needed ("yes", "no", "optional": a pipeline); fitting, the number of rows. With the
        prefix chosen_, seconds, held, and the layout's tensor, pipeline, data, zero, schedule.
        """
        known = {name: getattr(self, name) for name in (*SWITCHES, "row")}
        if self.problem or self._plan is None:
            return known
        best, mine = self.plan.rows[0].estimate, self.plan.rows[self.row]
        layout = mine.layout
        known |= {
            f"chosen_{name}": getattr(layout, name)
            for name in ("tensor", "pipeline", "data", "zero", "schedule")
        }
        return known | {
            "seconds": best.seconds,
            "mfu": best.mfu,
            "held": best.bytes["total"] / 1e9,
            "fits": best.fits,
            "needed": self.plan.pipeline_needed["answer"],
            "fitting": len(self.plan.rows),
            "chosen_seconds": mine.estimate.seconds,
            "chosen_held": mine.estimate.bytes["total"] / 1e9,
        }

    def _settle(self) -> None:
        """Plan what the switches say, and begin with the best row."""
        with self._lock, self.hold_sync():
            if self._quiet:
                return
            self.switches = [_described(name, getattr(self, name)) for name in SWITCHES]
            fix = {name: getattr(self, name) for name in FIXES if getattr(self, name) != FREE}
            try:
                self._plan = plan(
                    self.model,
                    device=self.machine,
                    gpus=self.gpus,
                    batch=self.batch,
                    fix=fix,
                    objective=self.objective,
                    flash=self.flash,
                    precision=self.precision,
                    **self._options,
                )
            except UsageError as error:
                self.problem = self.said = self._helped(str(error))
                return
            self.problem = ""
            self.rows = len(self._plan.rows)
            self.numbers = big_numbers(self._plan, fixed="pipeline" in fix)
            self.said = needed(self._plan, fixed="pipeline" in fix)
            self.rejected = rejected(self._plan)
            with self._quietly():
                self.row = 0
            self._chosen()

    def _helped(self, problem: str) -> str:
        """With which switch would do, where the planner only counts reasons."""
        if self.device.startswith("v100") and self.precision == "bf16":
            return "The V100 has no bf16: choose fp16 as the precision."
        sizes = {name: getattr(self, name) for name in ("tensor", "pipeline")}
        fixed = {name: size for name, size in sizes.items() if size != FREE}
        if self.gpus % math.prod(fixed.values()):
            said = " × ".join(f"{name} {size}" for name, size in fixed.items())
            possible = ", ".join(map(str, divisors(self.gpus)))
            return f"{said} does not divide {self.gpus} GPUs; products that do: {possible}."
        layers = MODELS[self.model].layers
        if layers % fixed.get("pipeline", 1):
            possible = ", ".join(str(size) for size in divisors(layers) if self.gpus % size == 0)
            return f"{layers} layers do not divide by {self.pipeline} ranks; possible: {possible}."
        return problem

    def _chosen(self) -> None:
        """Draw the table with this row chosen, and the row."""
        with self._lock, self.hold_sync():
            if self._quiet or self.problem or self._plan is None:
                return
            if self.row >= len(self._plan.rows):
                self.row = len(self._plan.rows) - 1
                return
            found, row = self._plan, self.row
            self.table = table_svg(found, row, TOP, self.said)
            self.picture = row_svg(found, row)
            self.timeline = timeline_svg(found, row)
            self.why = reasons(found, row)
            groups = crossings(found, found.rows[row].layout)
            self.about = f"{groups[:1].upper()}{groups[1:]} {timeline_words(found, row)}"
            self._tick()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view; still pictures and the words without a kernel."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        network = "" if self.network == USUAL else f", network {self.network:g} GB/s"
        line = (
            f"{self.model} on {self.gpus} {self.device}{network}, {self.batch} samples of a step."
        )
        if self.problem:
            data["text/html"] = f"<p>{escape(line)}</p><p>{escape(self.problem)}</p>"
            return data, metadata
        data["image/svg+xml"] = self.table
        numbers = " ".join(
            f"{one['label']}: {one['value']} ({one['caption']})." for one in self.numbers
        )
        about = "".join(
            f"<p>{escape(str(self.why[name]))}</p>" for name in ("title", "parts", "lead")
        )
        reasons = map(str, self.why["lines"])
        lines = "".join(f"<li>{escape(one)}</li>" for one in reasons)
        data["text/html"] = (
            "".join(f"<p>{escape(one)}</p>" for one in (line, self.said, numbers))
            + f"{self.table}{about}<ul>{lines}</ul>{self.picture}"
            + f"<p>{escape(self.about)}</p>{self.timeline}"
            + f"<p>{escape(_others(self.rejected))}</p>"
        )
        return data, metadata


def _others(reasons: list[str]) -> str:
    return (
        f"Not in the table: {'; '.join(reasons)}." if reasons else "Every layout is in the table."
    )


def _values(name: str, value: Any) -> list[Any]:
    """Of a switch, in order; its own value is among those of counts."""
    fixed: dict[str, list[Any]] = {
        "model": list(MODELS),
        "device": list(DEVICES),
        "flash": [False, True],
        "precision": PRECISIONS,
        "objective": ["time", "memory"],
        "schedule": [FREE, *SCHEDULES],
        "recompute": [FREE, *CHOICES["recompute"]],
        "zero": [FREE, *CHOICES["zero"]],
    }
    if name in fixed:
        return fixed[name]
    if name == "network":
        return [USUAL, *sorted({*NETWORKS, *([] if value == USUAL else [value])})]
    if name in ("tensor", "pipeline"):
        return [FREE, *sorted({*POWERS[:7], *([] if value == FREE else [value])})]
    return sorted({*POWERS, value})


def _described(name: str, value: Any) -> dict[str, Any]:
    """A switch for the front end: what it is called, and its values as a person reads them."""
    values = _values(name, value)
    return {
        "name": name,
        "label": LABELS.get(name, name),
        "kind": "range" if name in ("gpus", "batch") else "select",
        "values": values,
        "words": [_word(one) for one in values],
    }


def _word(value: Any) -> str:
    """Of a value; 1 and 0 are numbers, True and False are not."""
    return WORDS.get(value, str(value)) if isinstance(value, str | bool) else str(value)


def planner(  # noqa: PLR0913 - a field for each switch that a cell begins with
    model: str = "llama-7b",
    *,
    device: str = "a100-80",
    network: float | str = USUAL,
    gpus: int = 8,
    batch: int = 64,
    row: int = 0,
    fix: dict[str, Any] | None = None,
    objective: str = "time",
    flash: bool = False,
    precision: str = "bf16",
    show: Iterable[str] | None = None,
    goals: Any = (),
    **options: Any,
) -> PlannerView:
    """Ask which layout a model should have on so many GPUs; put it last in a cell.

    The table has the best layouts of ``pipelab.plan``, a bar of each step's seconds by part, and
    of the fullest GPU's bytes. A click on a row, or the arrow keys, show its mesh, its timeline,
    and what it loses against the best. Where nothing fits, it says how many GPUs would do.

    Args:
        model: a name that the planner knows, such as "llama-70b".
        device: likewise, such as "h100".
        network: of each GPU to other nodes, in GB/s; "usual" for what the device's clusters have.
        gpus: how many there are; every layout takes all.
        batch: samples of a step.
        row: the chosen row, from 0, the best.
        fix: what every layout has at the beginning: tensor, pipeline, schedule, recompute, zero.
        objective: "time" or "memory".
        flash: attention that keeps no scores.
        precision: "fp16", "bf16" or "fp32".
        show: the switches that can be moved, by name; without it all of them.
        goals: a list of ``pipelab.widgets.Goal``, or a slug of the course.
        options: of ``pipelab.plan``: sequence, gradients, optimizer, overlap.

    Returns:
        The widget.

    Raises:
        UnknownName: there is no such model, device, value, switch or option.
        UsageError: gpus, batch or a size is not a whole number from 1.

    >>> planner("llama-7b", gpus=8).said.split(".")[0]
    'A pipeline is optional'
    """
    for what, name, known in (("model", model, MODELS), ("device", device, DEVICES)):
        if name not in known:
            raise UnknownName(what, name, known)
    for what, value in (("gpus", gpus), ("batch", batch)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{what} is {value!r}; it is a whole number, 1 or more.")
    fixed = dict(fix or {})
    shown = list(SWITCHES) if show is None else list(show)
    for what, names, known_names in (
        ("switch", shown, SWITCHES),
        ("value to fix", list(fixed), FIXES),
        ("option", list(options), ("sequence", "gradients", "optimizer", "overlap")),
    ):
        strange = [name for name in names if name not in known_names]
        if strange:
            raise UnknownName(what, strange[0], known_names)
    if objective not in ("time", "memory"):
        raise UsageError(f"objective is {objective!r}; it is time or memory.")
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    view = PlannerView(
        options,
        model=model,
        device=device,
        network=network,
        gpus=gpus,
        batch=batch,
        objective=objective,
        flash=flash,
        precision=precision,
        show=shown,
        goals=goals if isinstance(goals, str) else list(goals),
        **fixed,
    )
    view.row = row
    return view
