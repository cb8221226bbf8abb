"""The lab's Python side: settings as traits, the prediction at every change, and one real run at a time."""

import threading
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import anywidget
import traitlets

from ..catalogue import entry, names
from ..errors import UnknownName, UsageError
from ..plots import plot, svg, view
from ..plots.bundle import FRONTEND, bundle
from ..simulator import Costs
from ..timeline import Timeline
from . import causes, output, theory
from .nearest import offers
from .presets import PRESETS
from .settings import MEMORY, MODELS, RECOMPUTE, Settings, check_cost
from .training import IDLE, PACE_MS, Training, measured_settings

_HERE = Path(__file__).parent
SETTINGS = tuple(field.name for field in fields(Settings))
LIMITS = {
    "ranks": (1, 16, 1),
    "microbatches": (1, 64, 1),
    "stages_per_rank": (1, 4, 1),
    "forward": (0.25, 4, 0.25),
    "input_grad": (0.25, 4, 0.25),
    "weight_grad": (0.25, 4, 0.25),
    "latency": (0, 4, 0.25),
    "memory_limit": (0, 16, 0.5),
    "width": (16, 512, 16),
}
"""Sliders: smallest value, largest, step. A larger value given from Python moves the end of its slider."""
MOST_PINS = 3
PANELS = ("causes", "path")
"""What is computed only while it is looked at: idle time by cause, the critical path."""


class Lab(anywidget.AnyWidget):
    """A live picture of one schedule; make one with `lab`.

    Every field of ``Settings`` is a trait, two-way with the front end, and so is ``paced``; ``settings`` has them all as
    one value and ``text`` as one line. At every change the kernel predicts the timeline, kept in ``timeline``. A real run
    belongs to its settings: a change stops it and clears it.

    Changes may arrive on another thread than the one that runs cells, and the run publishes from its own: one lock
    guards all.
    """

    _esm = bundle(_HERE / "lab.js")
    _css = (FRONTEND / "picture.css").read_text(encoding="utf-8") + (_HERE / "lab.css").read_text(encoding="utf-8")

    schedule = traitlets.Unicode("1f1b").tag(sync=True)
    ranks = traitlets.Int(4, min=1).tag(sync=True)
    microbatches = traitlets.Int(8, min=1).tag(sync=True)
    stages_per_rank = traitlets.Int(0, min=0).tag(sync=True)
    forward = traitlets.Float(1.0).tag(sync=True)
    input_grad = traitlets.Float(1.0).tag(sync=True)
    weight_grad = traitlets.Float(1.0).tag(sync=True)
    latency = traitlets.Float(0.0, min=0).tag(sync=True)
    stage_costs = traitlets.List(traitlets.Float()).tag(sync=True)
    recompute = traitlets.Enum(RECOMPUTE, "none").tag(sync=True)
    memory_limit = traitlets.Float(0.0, min=0).tag(sync=True)
    memory = traitlets.Enum(MEMORY, "activations").tag(sync=True)
    model = traitlets.Enum(MODELS, "auto").tag(sync=True)
    width = traitlets.Int(64, min=1).tag(sync=True)
    paced = traitlets.Bool(True).tag(sync=True)

    catalogue = traitlets.List().tag(sync=True)
    presets = traitlets.List(list(PRESETS)).tag(sync=True)
    problems = traitlets.Dict().tag(sync=True)
    limits = traitlets.Dict().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    offers = traitlets.List().tag(sync=True)
    predicted = traitlets.Dict().tag(sync=True)
    measured = traitlets.Dict().tag(sync=True)
    progress = traitlets.Dict(IDLE).tag(sync=True)
    pace_ms = traitlets.Float(PACE_MS).tag(sync=True)
    panels = traitlets.List(traitlets.Enum(PANELS)).tag(sync=True)
    causes = traitlets.Dict().tag(sync=True)
    path = traitlets.Dict().tag(sync=True)
    explanation = traitlets.Dict().tag(sync=True)
    pins = traitlets.List().tag(sync=True)

    timeline: Timeline | None = None
    """The predicted timeline of the settings as they are; None while they are impossible."""

    def __init__(self, **settings):
        self._lock = threading.RLock()
        self._training: Training | None = None
        self._quiet = False
        self._drawn: dict[str, tuple[Timeline, float]] = {}  # what the picture shows: source -> timeline, its scale
        if settings.get("backward") is not None:
            half = settings["backward"] / 2
            settings = {"input_grad": half, "weight_grad": half} | settings
        settings.pop("backward", None)
        unknown = [name for name in settings if name not in (*SETTINGS, "paced")]
        if unknown:
            raise UnknownName("setting", unknown[0], [*SETTINGS, "backward", "paced"])
        super().__init__(**settings)
        self.catalogue = [_described(name) for name in names()]
        self._settle()
        self.observe(lambda _: self._settle(), names=[*SETTINGS, "paced"])
        self.observe(lambda _: self._detail(), names=["panels"])
        self.on_msg(lambda _widget, content, _buffers: self._told(content))

    @traitlets.validate("schedule")
    def _known(self, proposal) -> str:
        return entry(proposal["value"]).name

    @traitlets.validate("forward", "input_grad", "weight_grad")
    def _positive(self, proposal) -> float:
        check_cost(proposal["trait"].name, proposal["value"])
        return proposal["value"]

    @traitlets.validate("stage_costs")
    def _all_positive(self, proposal) -> list[float]:
        for factor in proposal["value"]:
            check_cost("stage_costs", factor)
        return proposal["value"]

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
    def backward(self, value: float):
        check_cost("backward", value)
        self.apply(input_grad=value / 2, weight_grad=value / 2)

    def apply(self, **changes) -> None:
        """Changes several settings at once, so that the picture changes once."""
        with self._lock:
            before = self.settings
            with self._as_one_change():
                for name, value in changes.items():
                    setattr(self, name, value)
            if self.settings != before:
                self._settle()

    def preset(self, name: str) -> None:
        """Changes to one of ``presets``. Raises UnknownName, which lists them."""
        if name not in PRESETS:
            raise UnknownName("preset", name, PRESETS)
        self.apply(**PRESETS[name].to_dict())

    def set_state(self, sync_data):
        """A message from the front end; not while the run's thread publishes."""
        with self._lock:
            super().set_state(sync_data)

    def run(self) -> None:
        """Trains this schedule for real, in the background. Does nothing while a run is on."""
        with self._lock:
            if self.timeline is None or (self._training and self._training.busy):
                return
            if self.paced:
                self._draw(predicted=self.timeline, milliseconds=PACE_MS)
            self._training = Training(self.settings, self.timeline, paced=self.paced, publish=self._publish)
            self._training.start()

    def stop(self) -> None:
        """Stops the real run, if one is on; its end shows in ``progress``."""
        if self._training:
            self._training.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until no run is on; whether that came within ``timeout`` seconds."""
        return self._training.wait(timeout) if self._training else True

    def use_measured_costs(self) -> None:
        """Predicts again with what the last run measured: its costs per stage become the settings. Clears the run."""
        with self._lock:
            costs = self._training.measured_costs if self._training else None
            if costs is None:
                raise UsageError("Nothing has been measured with these settings yet: run first.")
            self.apply(**measured_settings(self.settings, costs).to_dict())

    def pin(self) -> None:
        """Keeps the prediction below the current one, to compare. Raises UsageError beyond ``MOST_PINS``."""
        with self._lock:
            if self.timeline is None:
                raise UsageError(f"There is nothing to pin: {self.problem}")
            if len(self.pins) >= MOST_PINS:
                raise UsageError(f"{MOST_PINS} configurations are pinned already: unpin(0) makes room.")
            self.pins = [*self.pins, {"text": self.text, "picture": self._message(self.timeline, 1.0)}]

    def unpin(self, index: int) -> None:
        """Forgets a pinned configuration."""
        with self._lock:
            self.pins = [pin for i, pin in enumerate(self.pins) if i != index]

    def use_pin(self, index: int) -> None:
        """Makes a pinned configuration the current one."""
        self.apply(**Settings.parse(self.pins[index]["text"]).to_dict())

    def figure(self):
        """The picture as a plotly Figure: the measured timeline where there is one, else the prediction."""
        return plot(self._timelines()[-1])

    def save(self, path: str | Path) -> Path:
        """Writes what is shown: .svg, .html (a page that plays), .csv (the schedule) or .json (a trace for Perfetto)."""
        return output.save(path, self._timelines())

    def export(self, format: str) -> None:
        """Hands such a file to the browser, which saves it."""
        file = output.make(format, self._timelines())
        self.send({"file": f"{self.schedule}.{file.ending}", "type": file.media_type, "text": file.text})

    def _timelines(self) -> list[Timeline]:
        """What is shown, in one unit; the measured one last. Raises UsageError where the settings are impossible."""
        with self._lock:
            shown = [timeline for timeline, _ in self._drawn.values()]
        if not shown:
            raise UsageError(f"There is nothing to show: {self.problem}")
        return [timeline for timeline in shown if timeline.unit == shown[-1].unit]

    def explain(self, rank: int, moment: float, source: str = "predicted") -> dict:
        """Why a rank stands idle at a moment of the picture, as data; {} where it does not. Shown beside the picture."""
        with self._lock:
            timeline, scale = self._drawn.get(source, (None, 1.0))
            self.explanation = causes.explain(timeline, rank, moment, scale) if timeline else {}
            return self.explanation

    def close(self) -> None:
        """Closes the widget and stops its run: nothing outlives the lab."""
        with self._lock:
            training, self._training = self._training, None
        if training:
            training.stop()
        super().close()

    @contextmanager
    def _as_one_change(self):
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    def _settle(self) -> None:
        """Predicts with the settings as they are now, and drops a run that belonged to others."""
        with self._lock:
            if self._quiet:
                return
            training, self._training = self._training, None
            if training and training.busy:
                training.stop()
                self.progress = {"state": "stopped", "message": "Stopped: the settings changed."}
            elif training:
                self.progress = IDLE
            with self.hold_sync():  # one message, so that the picture changes once
                settings = self.settings
                self.limits = {name: self._limit(name) for name in LIMITS}
                self.problems = _problems(settings)
                self.timeline, self.problem = _prediction(settings)
                self.offers = offers(settings) if self.problem else []
                self._drawn = {}
                self.measured = {}
                if self.timeline:
                    self._draw(predicted=self.timeline)
                else:
                    self.predicted = {}
                    self._detail()

    def _draw(self, *, milliseconds: float | None = None, costs: Costs | None = None, **timelines: Timeline) -> None:
        """Shows timelines by source ("predicted", "measured"). costs: of the prediction, if not those of the settings."""
        for source, timeline in timelines.items():
            scale = 1000.0 if timeline.unit == "s" else milliseconds or 1.0
            self._drawn[source] = timeline, scale
            predicted = source == "predicted"
            message = self._message(timeline, scale, costs) if predicted else view(timeline)
            setattr(self, source, message)
        self._detail()

    def _message(self, timeline: Timeline, scale: float, costs: Costs | None = None) -> dict:
        """A prediction for the canvas, with what theory says about it."""
        settings = self.settings
        message = view(timeline, milliseconds=scale if scale != 1 else None)
        used = costs or settings.costs(timeline.schedule.stages)
        unit = 1000.0 if costs else scale
        message["numbers"].append(theory.bound_number(timeline, used, settings.memory_limit, unit))
        return message | {
            "text": settings.text,
            "limits": settings.limits(timeline),
            "latency": used.latency * unit,
            "formula": theory.formula(settings, timeline, scale) if costs is None else {},
        }

    def _detail(self) -> None:
        """What is computed only while its panel is open, of the measured timeline where there is one."""
        with self._lock, self.hold_sync():
            timeline, scale = self._drawn.get("measured") or self._drawn.get("predicted") or (None, 1.0)
            self.causes = causes.causes(timeline, scale) if timeline and "causes" in self.panels else {}
            self.path = causes.critical_path(timeline, scale) if timeline and "path" in self.panels else {}
            self.explanation = {}

    def _limit(self, name: str) -> list:
        low, high, step = self.limits.get(name, LIMITS[name])
        return [low, max(high, getattr(self, name)), step]

    def _publish(self, training: Training, *, timelines: dict | None = None, costs: Costs | None = None, **traits) -> None:
        with self._lock, self.hold_sync():
            if training is not self._training:
                return  # the settings have changed since: this run's news belong to another picture
            for name, value in traits.items():
                setattr(self, name, value)
            if timelines:
                self._draw(costs=costs, **timelines)

    def _told(self, content: dict) -> None:
        """A message from the front end: an action and its arguments."""
        arguments = {name: value for name, value in content.items() if name != "action"}
        {
            "run": self.run, "stop": self.stop, "apply": self.apply, "preset": self.preset, "explain": self.explain,
            "use_measured_costs": self.use_measured_costs, "pin": self.pin, "unpin": self.unpin, "use_pin": self.use_pin,
            "export": self.export,
        }[content["action"]](**arguments)  # fmt: skip

    def _repr_mimebundle_(self, **kwargs):
        """The live view, and a static SVG for viewers without a kernel."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        if self.timeline:
            data["image/svg+xml"] = svg(self.timeline)
        return data, metadata


def _described(name: str) -> dict:
    found = entry(name)
    per_rank = {"stages_per_rank": found.stages_per_rank, "fixed": bool(found.fixed), "searched": found.searched}
    return {"name": name, "title": found.title, "summary": found.summary} | per_rank


def _problems(settings: Settings) -> dict[str, str]:
    """Why each schedule is impossible with these counts; those that are possible are left out."""
    found = {name: settings.with_changes(schedule=name).problem() for name in names()}
    return {name: problem for name, problem in found.items() if problem}


def _prediction(settings: Settings) -> tuple[Timeline | None, str]:
    """The timeline, or why there is none."""
    try:
        return settings.predict(), ""
    except UsageError as error:
        return None, str(error)


def lab(schedule: str = "1f1b", **settings) -> Lab:
    """The live lab: put it last in a notebook cell, or ``display`` it.

    schedule: a name of the catalogue, or a line that a lab's ``text`` gave: ``lab("gpipe ranks=8 latency=0.5")``.
    settings: fields of ``pipelab.widgets.Settings``, and ``paced``. The most used: ranks, devices (4); microbatches, pieces
    of a batch (8); stages_per_rank; forward, input_grad, weight_grad, or backward for the sum of both: cost of one stage
    for one micro-batch (1, 1, 1); latency, time from rank to rank (0), all in abstract units.
    Raises UnknownName for an unknown schedule or setting, traitlets.TraitError or UsageError for impossible numbers.

    The pool of workers warms up in the background, so that the first real run starts at once.
    """
    widget = Lab(**(Settings.parse(schedule).to_dict() | settings))
    threading.Thread(target=_warm, name="pipelab-warm", daemon=True).start()
    return widget


def _warm() -> None:
    from ..engine import warm

    warm()
    from ..engine import start  # noqa: F401 - imports torch: seconds that the first real run should not wait for
