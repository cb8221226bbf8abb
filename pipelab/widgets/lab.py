"""The lab's Python side: settings as traits, predictions at once, and one real run at a time."""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets
from ipywidgets import widget_serialization

from ..errors import UsageError
from ..plots import plot, svg, view
from ..plots.bundle import bundle
from ..plots.page import as_text, write_whole
from ..plots.view import caption
from ..simulator import Costs
from ..timeline import Timeline
from . import causes, output, theory
from .builder import Builder
from .causes import words as words_of_causes
from .construction import Construction
from .goals import GoalsWidget
from .message import of_one_batch, order
from .page import TRAITS, lab_page
from .panel import SETTINGS, Panel, with_backward
from .profiled import Profiled
from .real_run import RealRunWidget
from .requests import listen
from .settings import WHOLE, Settings
from .styles import styles
from .sweep import sweep
from .training import IDLE, measured_settings, unit_ms

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from ..engine import Run
    from ..layout import Profile

_HERE = Path(__file__).parent
MOST_PINS = 3
MOST_RUNS = 50
PANELS = ("causes", "path")
"""What is computed only while it is looked at: idle time by cause, the critical path."""


class Lab(Panel, GoalsWidget, RealRunWidget):
    """A live picture of one schedule; make one with `lab`.

    Its settings are those of `Panel`, and ``paced``. At every change the kernel predicts the
    timeline, kept in ``timeline``; ``measured`` is what the run measured. A real run belongs to its
    settings: a change stops it and clears it.

    Changes may arrive on another thread than the one that runs cells, and the run publishes from
    its own: one lock guards all.
    """

    _esm = bundle(_HERE / "lab.js")
    _css = styles()

    panels = traitlets.List(traitlets.Enum(PANELS)).tag(sync=True)
    causes = traitlets.Dict().tag(sync=True)
    path = traitlets.Dict().tag(sync=True)
    explanation = traitlets.Dict().tag(sync=True)
    words = traitlets.Dict(words_of_causes()).tag(sync=True)
    pins = traitlets.List(traitlets.Dict()).tag(sync=True)
    editor = traitlets.Instance(Builder, allow_none=True).tag(sync=True, **widget_serialization)

    timeline: Timeline | None = None
    """The predicted timeline of the settings as they are; None while they are impossible."""

    def __init__(self, *, profile: "Profile | None" = None, **settings: Any):
        self._profile = profile
        if profile is not None:
            self._samples = profile.microbatch * settings.get("microbatches", 8)
        # Paced runs that have ended, the newest last.
        self._runs: list[tuple[Settings, Timeline, float]] = []
        # What the picture shows: source -> timeline, its scale.
        self._drawn: dict[str, tuple[Timeline, float]] = {}
        super().__init__(**settings)
        self._settle()
        self.observe(lambda _: self._settle(), names=[*SETTINGS, "paced"])
        self.observe(lambda _: self._detail(), names=["panels"])
        listen(self, self._told)

    @property
    def settings(self) -> Settings:
        """All settings as one value; with a profile they know its bytes."""
        plain = super().settings
        if self._profile is None:
            return plain
        return Profiled(**vars(plain), profile=self._profile, batch=self._samples)

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take in a message from the front end; not while the run's thread publishes."""
        with self._lock:
            super().set_state(sync_data)

    def run(self) -> None:
        """Train this schedule for real, in the background. Does nothing while a run is on."""
        with self._lock:
            if self.timeline is None or self._busy:
                return
            self._begin(self.settings, self.timeline)

    def use_measured_costs(self) -> None:
        """Predict again with what the last run measured, and clear the run.

        Its costs per stage become the settings.
        """
        with self._lock:
            costs = self._training.measured_costs if self._training else None
            if costs is None:
                raise UsageError("Nothing has been measured with these settings yet: run first.")
            self.apply(**measured_settings(self.settings, costs).to_dict())

    def pin(self) -> None:
        """Keep the prediction below the current one, to compare.

        Raises UsageError beyond ``MOST_PINS``.
        """
        with self._lock:
            if self.timeline is None:
                raise UsageError(f"There is nothing to pin: {self.problem}")
            if len(self.pins) >= MOST_PINS:
                raise UsageError(
                    f"{MOST_PINS} configurations are pinned already: unpin(0) makes room."
                )
            picture = self._message(self.timeline, 1.0)
            self.pins = [*self.pins, {"text": self.text, "picture": picture}]
            self._tick()

    def unpin(self, index: int) -> None:
        """Forget a pinned configuration."""
        with self._lock:
            self.pins = [pin for i, pin in enumerate(self.pins) if i != index]

    def use_pin(self, index: int) -> None:
        """Make a pinned configuration the current one."""
        self.apply(**Settings.parse(self.pins[index]["text"]).to_dict())

    def edit(self) -> Builder:
        """Open the current schedule for editing by hand, below.

        Raises UsageError where that is impossible.
        """
        with self._lock:
            old, schedule = self.editor, self.settings.build()
            settings = self.settings.with_changes(recompute="none")
            new = self.editor = Builder(Construction.of(schedule), settings)
        if old:
            old.close()
        return new

    @property
    def metrics(self) -> dict[str, Any]:
        """The numbers of the prediction, those of ``Timeline.metrics`` and peak_memory.

        With one batch also time_per_batch, where one device alone takes 100, and speed_up.
        Empty while the settings are impossible.
        """
        timeline = self.timeline
        if timeline is None:
            return {}
        numbers = timeline.metrics | {"peak_memory": float(timeline.bytes_held.max())}
        if self.settings.one_batch:
            numbers["time_per_batch"] = timeline.makespan
            numbers["speed_up"] = WHOLE / timeline.makespan
        return numbers

    @property
    def facts(self) -> dict[str, Any]:
        """What goals can be about: settings, numbers, copies of the model, pins and the run."""
        numbers = {number["key"]: number["value"] for number in self.predicted.get("numbers", [])}
        run = self.progress["state"]
        done = {"copies": self.predicted.get("replicas"), "pins": len(self.pins), "run": run}
        return self.settings.to_dict() | numbers | done

    @property
    def measured(self) -> Timeline | None:
        """The step of the real run that is shown, in seconds; None while there is none."""
        with self._lock:
            drawn = self._drawn.get("measured")
        return drawn[0] if drawn else None

    def figure(self) -> "Figure":
        """The picture as a plotly Figure: what was measured, else the prediction."""
        return plot(self._timelines()[-1])

    def sweep(self, over: str, values: Iterable[Any] | None = None, **options: Any) -> "Figure":
        """``pipelab.widgets.sweep`` around these settings.

        What this lab's paced runs with such settings measured is drawn on top.
        """
        free = {over: None, "schedule": None}
        like = self.settings.with_changes(**free)
        runs = [run for run in self._runs if run[0].with_changes(**free) == like]
        given = self.settings.to_dict() | {
            "measured": [timeline for _, timeline, _ in runs],
            "unit_s": [unit_s for _, _, unit_s in runs],
        }
        if self._profile is not None:
            given |= {"profile": self._profile, "batch": self._samples}
        given.pop(over, None)
        return sweep(over, values, **(given | options))

    def save(self, path: str | Path, *, counts: Mapping[str, Iterable[Any]] | None = None) -> Path:
        """Write what is shown, as the path's ending says.

        That is .svg, .html, .csv (the schedule) or .json (a trace for Perfetto). The HTML page is
        the lab itself without a kernel: its cost sliders, player, idle causes and goals work.

        Args:
            path: of the file.
            counts: of a page, what can be chosen beside the costs, such as
                ``{"microbatches": [1, 2, 4, 8], "schedule": ["gpipe", "1f1b"]}``; also "ranks" and
                "stages_per_rank". Without it a few usual ones.

        Raises UsageError for counts that are too many or not of a page, or settings that are
        impossible.
        """
        if Path(path).suffix == ".html":
            return write_whole(path, self.page(counts))
        if counts is not None:
            raise UsageError(f"counts are of a page that lives: save a .html, not {path}.")
        return output.save(path, self._timelines())

    def page(self, counts: Mapping[str, Iterable[Any]] | None = None) -> str:
        """The text of the page that ``save`` writes."""
        with self._lock:
            if self.timeline is None:
                raise UsageError(f"There is nothing to show: {self.problem}")
            traits = {name: getattr(self, name) for name in TRAITS}
            return lab_page(traits, self.settings, caption(self.timeline), counts)

    @classmethod
    def of_run(cls, run: "Run", settings: Settings, costs: Costs) -> "Lab":
        """A lab that shows the last step of a run over its prediction.

        Args:
            run: a finished one, of a schedule of the catalogue.
            settings: its schedule and counts.
            costs: of its pace, or those that it measured, in seconds. Its cost sliders begin there,
                with the mean forward as 1.
        """
        made = cls(**measured_settings(settings, costs).to_dict())
        made._draw({"predicted": run.predicted, "measured": run.timeline}, costs=costs)
        return made

    def export(self, format: str) -> None:
        """Hand such a file to the browser, which saves it."""
        file = output.make(format, self._timelines())
        if format == "html":
            file = file._replace(text=self.page())
        name = f"{self.schedule}.{file.ending}"
        self.send({"file": name, "type": file.media_type, "text": file.text})

    def _send_orders(self, changes: list[dict[str, Any]]) -> None:
        """Send the predictions of neighbouring settings ahead; those that are impossible are not.

        In text, since arrays inside a list of messages do not travel as such.
        """
        found = []
        for change in changes:
            settings = self.settings.with_changes(**change)
            with suppress(UsageError):
                found.append(as_text(order(settings, settings.predict())))
        self.send({"orders": found})

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

    def explain(self, rank: int, moment: float, source: str = "predicted") -> dict[str, Any]:
        """Explain why a rank stands idle at a moment of the picture; {} where it does not.

        The explanation, as data, is also shown beside the picture.
        """
        with self._lock:
            explanation = {}
            if source in self._drawn:
                timeline, scale = self._drawn[source]
                explanation = causes.explain(timeline, rank, moment, scale, settings=self.settings)
            self.explanation = explanation
            return explanation

    def close(self) -> None:
        """Close the lab with its editor, and stop its run: nothing outlives the lab."""
        if self.editor:
            self.editor.close()
        super().close()

    def _settle(self) -> None:
        """Predict with the settings as they are now, and drop a run that belonged to others."""
        with self._lock:
            if self._quiet:
                return
            training = self._let_go()
            if training and training.busy:
                training.stop()
                self.progress = {"state": "stopped", "message": "Stopped: the settings changed."}
            elif training:
                self.progress = IDLE
            with self.hold_sync():  # one message, so that the picture changes once
                self.timeline = self._predict()
                self._drawn = {}
                self.run_picture = {}
                if self.timeline:
                    self.pace_ms = unit_ms(self.settings, self.timeline)
                    self._draw({"predicted": self.timeline})
                    self._tick()
                else:
                    self.predicted = {}
                    self._detail()

    def _draw(
        self,
        timelines: dict[str, Timeline],
        *,
        milliseconds: float | None = None,
        costs: Costs | None = None,
    ) -> None:
        """Show timelines by source ("predicted", "measured").

        ``costs`` are those of the prediction, if they are not the settings'.
        """
        for source, timeline in timelines.items():
            scale = 1000.0 if timeline.unit == "s" else milliseconds or 1.0
            self._drawn[source] = timeline, scale
            if source == "predicted":
                self.predicted = self._message(timeline, scale, costs)
            else:
                self.run_picture = self._measured_message(timeline)
        self._detail()

    def _measured_message(self, timeline: Timeline) -> dict[str, Any]:
        """What a real run measured, for the canvas."""
        message, training = view(timeline), self._training
        if self.settings.one_batch:
            paced = training is not None and training.paced
            whole = WHOLE * self.pace_ms if paced else 1000 * float(timeline.compute.sum())
            message["numbers"] = of_one_batch(message, timeline, whole)
        return message

    def _message(
        self, timeline: Timeline, scale: float, costs: Costs | None = None
    ) -> dict[str, Any]:
        """A prediction for the canvas, with what theory says about it."""
        settings = self.settings
        message = order(settings, timeline, scale, costs)
        used = costs or settings.costs(timeline.schedule.stages)
        unit = 1000.0 if costs else scale
        limit = settings.limit_in_microbatches
        message["numbers"].append(theory.bound_number(timeline, used, limit, unit))
        message["formula"] = theory.formula(settings, timeline, scale) if costs is None else {}
        return message

    def _detail(self) -> None:
        """Compute what is computed only while its panel is open.

        It is about the measured timeline where there is one.
        """
        with self._lock, self.hold_sync():
            found: dict[str, dict[str, Any]] = dict.fromkeys(PANELS, {})
            drawn = self._drawn.get("measured") or self._drawn.get("predicted")
            if drawn and "causes" in self.panels:
                found["causes"] = causes.causes(*drawn)
            if drawn and "path" in self.panels:
                found["path"] = causes.critical_path(*drawn)
            self.causes, self.path = found["causes"], found["path"]
            self.explanation = {}

    def _pace(self, unit_ms: float) -> None:
        if self.timeline:
            self.pace_ms = unit_ms
            self._draw({"predicted": self.timeline}, milliseconds=unit_ms)

    def _show_run(self, timelines: dict[str, Timeline], costs: Costs | None) -> None:
        training = self._training
        if training and training.paced:
            measured = training.settings, timelines["measured"], self.pace_ms / 1000
            others = [run for run in self._runs if run[0] is not training.settings]
            self._runs = [*others[1 - MOST_RUNS :], measured]
        self._draw(timelines, costs=costs)

    def _told(self, action: str, arguments: dict[str, Any]) -> None:
        """Do what the front end asks for."""
        actions: dict[str, Callable[..., object]] = {
            "run": self.run,
            "stop": self.stop,
            "apply": self.apply,
            "preset": self.preset,
            "explain": self.explain,
            "use_measured_costs": self.use_measured_costs,
            "show_step": self.show_step,
            "pin": self.pin,
            "unpin": self.unpin,
            "use_pin": self.use_pin,
            "export": self.export,
            "edit": self._edit_or_say,
            "show_goal": self.show_goal,
            "orders": self._send_orders,
            "hello": lambda: self.send({"hello": True}),
        }
        actions[action](**arguments)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view, and a static SVG for viewers without a kernel."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        if self.timeline:
            data["image/svg+xml"] = svg(self.timeline)
        return data, metadata


def lab(schedule: str = "1f1b", *, profile: "Profile | None" = None, **settings: Any) -> Lab:
    """The live lab: put it last in a notebook cell, or ``display`` it.

    The pool of workers warms up in the background, so that the first real run starts at once.

    Args:
        schedule: a name of the catalogue, or a line that a lab's ``text`` gave:
            ``lab("gpipe ranks=8 latency=0.5")``.
        profile: of a model; memory is then counted in its bytes, of even cuts, with Adam. The batch
            is that of the profile: its micro-batch times ``microbatches``. A real run still trains
            the lab's own small model.
        settings: fields of ``pipelab.widgets.Settings``. The most used are ranks, the devices (4);
            microbatches, the pieces of a batch (8); stages_per_rank; forward, input_grad and
            weight_grad, or backward for the sum of the last two (1, 1, 1); latency, the time from
            rank to rank (0); overhead, what each action takes beside (0). One model and one batch
            are cut: one device alone takes 100 for it, and the costs are its shares. With
            hold="microbatch" a cost is that of one stage for one micro-batch, in any unit. Also
            ``paced``; ``show``, the controls of the first row; ``numbers``, the big numbers;
            ``schedules``, those on the menu; ``goals``, a list of ``pipelab.widgets.Goal``.

    Returns:
        The widget.

    Raises:
        UnknownName: there is no such schedule or setting.
        UsageError: a number is impossible; traitlets.TraitError where it is not even a number.
    """
    if profile is not None:
        settings = {"memory": "bytes"} | settings
    given = Settings.parse(schedule).to_dict() | with_backward(settings)
    widget = Lab(profile=profile, **given)
    threading.Thread(target=_warm, name="pipelab-warm", daemon=True).start()
    return widget


def _warm() -> None:
    from ..engine import warm

    warm()
    # Imports torch: seconds that the first real run should not wait for.
    from ..engine import start  # noqa: F401 - imported for its effect
