"""The lab's Python side: settings as traits, the prediction at every change, and one real run at a
time.
"""

import threading
from pathlib import Path

import traitlets
from ipywidgets import widget_serialization

from ..errors import UsageError
from ..plots import plot, svg, view
from ..plots.bundle import FRONTEND, bundle
from ..simulator import Costs
from ..timeline import Timeline
from . import causes, output, theory
from .builder import Builder
from .construction import Construction
from .panel import SETTINGS, Panel
from .settings import Settings
from .sweep import sweep
from .training import IDLE, PACE_MS, Training, measured_settings

_HERE = Path(__file__).parent
MOST_PINS = 3
MOST_RUNS = 50
PANELS = ("causes", "path")
"""What is computed only while it is looked at: idle time by cause, the critical path."""


class Lab(Panel):
    """A live picture of one schedule; make one with `lab`.

    Its settings are those of `Panel`, and ``paced``. At every change the kernel predicts the
    timeline, kept in ``timeline``. A real run belongs to its settings: a change stops it and clears
    it.

    Changes may arrive on another thread than the one that runs cells, and the run publishes from
    its own: one lock guards all.
    """

    _esm = bundle(_HERE / "lab.js")
    _css = (FRONTEND / "picture.css").read_text(encoding="utf-8") + (_HERE / "lab.css").read_text(
        encoding="utf-8"
    )

    paced = traitlets.Bool(True).tag(sync=True)

    predicted = traitlets.Dict().tag(sync=True)
    measured = traitlets.Dict().tag(sync=True)
    progress = traitlets.Dict(IDLE).tag(sync=True)
    pace_ms = traitlets.Float(PACE_MS).tag(sync=True)
    panels = traitlets.List(traitlets.Enum(PANELS)).tag(sync=True)
    causes = traitlets.Dict().tag(sync=True)
    path = traitlets.Dict().tag(sync=True)
    explanation = traitlets.Dict().tag(sync=True)
    pins = traitlets.List().tag(sync=True)
    editor = traitlets.Instance(Builder, allow_none=True).tag(sync=True, **widget_serialization)

    timeline: Timeline | None = None
    """The predicted timeline of the settings as they are; None while they are impossible."""

    def __init__(self, **settings):
        self._training: Training | None = None
        self._runs: list[
            tuple[Settings, Timeline]
        ] = []  # paced runs that have ended, the newest last
        self._drawn: dict[
            str, tuple[Timeline, float]
        ] = {}  # what the picture shows: source -> timeline, its scale
        super().__init__(**settings)
        self._settle()
        self.observe(lambda _: self._settle(), names=[*SETTINGS, "paced"])
        self.observe(lambda _: self._detail(), names=["panels"])
        self.on_msg(lambda _widget, content, _buffers: self._told(content))

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
            self._training = Training(
                self.settings, self.timeline, paced=self.paced, publish=self._publish
            )
            self._training.start()

    def stop(self) -> None:
        """Stops the real run, if one is on; its end shows in ``progress``."""
        if self._training:
            self._training.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until no run is on; whether that came within ``timeout`` seconds."""
        return self._training.wait(timeout) if self._training else True

    def use_measured_costs(self) -> None:
        """Predicts again with what the last run measured: its costs per stage become the settings.

        Clears the run.
        """
        with self._lock:
            costs = self._training.measured_costs if self._training else None
            if costs is None:
                raise UsageError("Nothing has been measured with these settings yet: run first.")
            self.apply(**measured_settings(self.settings, costs).to_dict())

    def pin(self) -> None:
        """Keeps the prediction below the current one, to compare.

        Raises UsageError beyond ``MOST_PINS``.
        """
        with self._lock:
            if self.timeline is None:
                raise UsageError(f"There is nothing to pin: {self.problem}")
            if len(self.pins) >= MOST_PINS:
                raise UsageError(
                    f"{MOST_PINS} configurations are pinned already: unpin(0) makes room."
                )
            self.pins = [
                *self.pins,
                {"text": self.text, "picture": self._message(self.timeline, 1.0)},
            ]

    def unpin(self, index: int) -> None:
        """Forgets a pinned configuration."""
        with self._lock:
            self.pins = [pin for i, pin in enumerate(self.pins) if i != index]

    def use_pin(self, index: int) -> None:
        """Makes a pinned configuration the current one."""
        self.apply(**Settings.parse(self.pins[index]["text"]).to_dict())

    def edit(self) -> Builder:
        """Opens the current schedule for editing by hand, below.

        Raises UsageError where that is impossible.
        """
        with self._lock:
            old, schedule = self.editor, self.settings.build()
            self.editor = Builder(
                Construction.of(schedule), self.settings.with_changes(recompute="none")
            )
        if old:
            old.close()
        return self.editor

    def figure(self):
        """The picture as a plotly Figure: the measured timeline where there is one, else the
        prediction.
        """
        return plot(self._timelines()[-1])

    def sweep(self, over: str, values=None, **options):
        """``pipelab.widgets.sweep`` around these settings; on top, what this lab's paced runs with
        such settings measured.
        """
        like = self.settings
        free = {over: None, "schedule": None}
        measured = [t for s, t in self._runs if s.with_changes(**free) == like.with_changes(**free)]
        settings = {name: value for name, value in like.to_dict().items() if name != over}
        return sweep(
            over, values, **{"measured": measured, "unit_s": PACE_MS / 1000, **settings, **options}
        )

    def save(self, path: str | Path) -> Path:
        """Writes what is shown: .svg, .html (a page that plays), .csv (the schedule) or .json (a
        trace for Perfetto).
        """
        return output.save(path, self._timelines())

    def export(self, format: str) -> None:
        """Hands such a file to the browser, which saves it."""
        file = output.make(format, self._timelines())
        self.send(
            {"file": f"{self.schedule}.{file.ending}", "type": file.media_type, "text": file.text}
        )

    def _edit_or_say(self) -> None:
        """``edit`` for the front end, which shows why it is impossible."""
        try:
            self.edit()
        except UsageError as error:
            self.send({"notice": str(error)})

    def _timelines(self) -> list[Timeline]:
        """What is shown, in one unit; the measured one last.

        Raises UsageError where the settings are impossible.
        """
        with self._lock:
            shown = [timeline for timeline, _ in self._drawn.values()]
        if not shown:
            raise UsageError(f"There is nothing to show: {self.problem}")
        return [timeline for timeline in shown if timeline.unit == shown[-1].unit]

    def explain(self, rank: int, moment: float, source: str = "predicted") -> dict:
        """Why a rank stands idle at a moment of the picture, as data; {} where it does not.

        Shown beside the picture.
        """
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
        if self.editor:
            self.editor.close()
        super().close()

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
                self.timeline = self._predict()
                self._drawn = {}
                self.measured = {}
                if self.timeline:
                    self._draw(predicted=self.timeline)
                else:
                    self.predicted = {}
                    self._detail()

    def _draw(
        self,
        *,
        milliseconds: float | None = None,
        costs: Costs | None = None,
        **timelines: Timeline,
    ) -> None:
        """Shows timelines by source ("predicted", "measured"). costs: of the prediction, if not
        those of the settings.
        """
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
        if (
            settings.memory == "bytes"
        ):  # a real run counts the bytes of what autograd saved, and nothing else
            peak = next(number for number in message["numbers"] if number["key"] == "peak_memory")
            peak["definition"] += "; measured: saved activations only"
        message["numbers"].append(theory.bound_number(timeline, used, settings.memory_limit, unit))
        return message | {
            "text": settings.text,
            "limits": settings.limits(timeline),
            "latency": used.latency * unit,
            "formula": theory.formula(settings, timeline, scale) if costs is None else {},
        }

    def _detail(self) -> None:
        """What is computed only while its panel is open, of the measured timeline where there is
        one.
        """
        with self._lock, self.hold_sync():
            timeline, scale = (
                self._drawn.get("measured") or self._drawn.get("predicted") or (None, 1.0)
            )
            self.causes = (
                causes.causes(timeline, scale) if timeline and "causes" in self.panels else {}
            )
            self.path = (
                causes.critical_path(timeline, scale) if timeline and "path" in self.panels else {}
            )
            self.explanation = {}

    def _publish(
        self,
        training: Training,
        *,
        timelines: dict | None = None,
        costs: Costs | None = None,
        **traits,
    ) -> None:
        with self._lock, self.hold_sync():
            if training is not self._training:
                return  # the settings have changed since: this run's news belong to another picture
            for name, value in traits.items():
                setattr(self, name, value)
            if timelines:
                if training.paced:
                    self._runs = [
                        *self._runs[1 - MOST_RUNS :],
                        (training.settings, timelines["measured"]),
                    ]
                self._draw(costs=costs, **timelines)

    def _told(self, content: dict) -> None:
        """A message from the front end: an action and its arguments."""
        arguments = {name: value for name, value in content.items() if name != "action"}
        {
            "run": self.run,
            "stop": self.stop,
            "apply": self.apply,
            "preset": self.preset,
            "explain": self.explain,
            "use_measured_costs": self.use_measured_costs,
            "pin": self.pin,
            "unpin": self.unpin,
            "use_pin": self.use_pin,
            "export": self.export,
            "edit": self._edit_or_say,
        }[content["action"]](**arguments)

    def _repr_mimebundle_(self, **kwargs):
        """The live view, and a static SVG for viewers without a kernel."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        if self.timeline:
            data["image/svg+xml"] = svg(self.timeline)
        return data, metadata


def lab(schedule: str = "1f1b", **settings) -> Lab:
    """The live lab: put it last in a notebook cell, or ``display`` it.

    schedule: a name of the catalogue, or a line that a lab's ``text`` gave: ``lab("gpipe ranks=8
    latency=0.5")``. settings: fields of ``pipelab.widgets.Settings``, and ``paced``. The most used:
    ranks, devices (4); microbatches, pieces of a batch (8); stages_per_rank; forward, input_grad,
    weight_grad, or backward for the sum of both: cost of one stage for one micro-batch (1, 1, 1);
    latency, time from rank to rank (0), all in abstract units. Raises UnknownName for an unknown
    schedule or setting, traitlets.TraitError or UsageError for impossible numbers.

    The pool of workers warms up in the background, so that the first real run starts at once.
    """
    widget = Lab(**(Settings.parse(schedule).to_dict() | settings))
    threading.Thread(target=_warm, name="pipelab-warm", daemon=True).start()
    return widget


def _warm() -> None:
    from ..engine import warm

    warm()
    from ..engine import start  # noqa: F401 - imports torch: seconds that the first real run should not wait for
