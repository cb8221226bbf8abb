"""The lab's Python side: settings as traits, the prediction at every change, and one real run at a time."""

import threading
from pathlib import Path

import anywidget
import traitlets

from ..catalogue import build, entry, names
from ..catalogue.auto import find
from ..errors import UsageError
from ..plots import svg, view
from ..plots.bundle import FRONTEND, bundle
from ..schedule import Schedule
from ..simulator import Costs, simulate
from ..timeline import Timeline
from .training import IDLE, PACE_MS, Training

_HERE = Path(__file__).parent
SETTINGS = ("schedule", "ranks", "microbatches", "forward", "backward", "latency", "paced")
LIMITS = {
    "ranks": (1, 16, 1),
    "microbatches": (1, 64, 1),
    "forward": (0.5, 4, 0.5),
    "backward": (0.5, 8, 0.5),
    "latency": (0, 4, 0.5),
}
"""Sliders: smallest value, largest, step. A larger value given from Python moves the end of its slider."""

QUICK = 0.005
"""Effort of a search at every move of a slider: up to a few tenths of a second for the largest settings."""


class Lab(anywidget.AnyWidget):
    """A live picture of one schedule; make one with `lab`.

    Settings, two-way with the front end: ``schedule`` (a name of the catalogue), ``ranks`` (one stage each),
    ``microbatches``, ``forward``, ``backward`` and ``latency`` (abstract units), ``paced``. At every change the kernel
    predicts the timeline, kept in ``timeline``. A real run belongs to its settings: a change stops it and clears it.

    Changes may arrive on another thread than the one that runs cells, and the run publishes from its own: one lock
    guards all.
    """

    _esm = bundle(_HERE / "lab.js")
    _css = (FRONTEND / "picture.css").read_text(encoding="utf-8") + (_HERE / "lab.css").read_text(encoding="utf-8")

    schedule = traitlets.Unicode("1f1b").tag(sync=True)
    ranks = traitlets.Int(4, min=1).tag(sync=True)
    microbatches = traitlets.Int(8, min=1).tag(sync=True)
    forward = traitlets.Float(1.0).tag(sync=True)
    backward = traitlets.Float(2.0).tag(sync=True)
    latency = traitlets.Float(0.0, min=0).tag(sync=True)
    paced = traitlets.Bool(True).tag(sync=True)

    limits = traitlets.Dict().tag(sync=True)
    choices = traitlets.List().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    predicted = traitlets.Dict().tag(sync=True)
    measured = traitlets.Dict().tag(sync=True)
    progress = traitlets.Dict(IDLE).tag(sync=True)
    pace_ms = traitlets.Float(PACE_MS).tag(sync=True)

    timeline: Timeline | None = None
    """The predicted timeline of the settings as they are; None while they are impossible."""

    def __init__(self, **settings):
        self._lock = threading.RLock()
        self._training: Training | None = None
        super().__init__(**settings)
        self._settle()
        self.observe(lambda _: self._settle(), names=list(SETTINGS))
        self.on_msg(lambda _widget, content, _buffers: self._told(content))

    @traitlets.validate("schedule")
    def _known(self, proposal) -> str:
        return entry(proposal["value"]).name

    @traitlets.validate("forward", "backward")
    def _positive(self, proposal) -> float:
        if not 0 < proposal["value"] < float("inf"):
            raise UsageError(f"{proposal['trait'].name} is {proposal['value']:g}; a cost is a number above 0.")
        return proposal["value"]

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
                self.predicted = view(self.timeline, milliseconds=PACE_MS)
            self._training = Training(self.timeline.schedule, self._costs(), paced=self.paced, publish=self._publish)
            self._training.start()

    def stop(self) -> None:
        """Stops the real run, if one is on; its end shows in ``progress``."""
        if self._training:
            self._training.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until no run is on; whether that came within ``timeout`` seconds."""
        return self._training.wait(timeout) if self._training else True

    def close(self) -> None:
        """Closes the widget and stops its run: nothing outlives the lab."""
        with self._lock:
            training, self._training = self._training, None
        if training:
            training.stop()
        super().close()

    def _settle(self) -> None:
        """Predicts with the settings as they are now, and drops a run that belonged to others."""
        with self._lock:
            training, self._training = self._training, None
            if training and training.busy:
                training.stop()
                self.progress = {"state": "stopped", "message": "Stopped: the settings changed."}
            elif training:
                self.progress = IDLE
            with self.hold_sync():  # one message, so that the picture changes once
                self.limits = {name: self._limit(name) for name in LIMITS}
                self.choices = [self._choice(name) for name in names()]
                self.timeline, self.problem = self._predict()
                self.predicted = view(self.timeline) if self.timeline else {}
                self.measured = {}

    def _predict(self) -> tuple[Timeline | None, str]:
        """The timeline, or why there is none."""
        try:
            return simulate(self._schedule(), self._costs()), ""
        except UsageError as error:
            return None, str(error)

    def _schedule(self) -> Schedule:
        if entry(self.schedule).searched:
            counts = {"ranks": self.ranks, "microbatches": self.microbatches}
            return find(**counts, costs=self._costs(), effort=QUICK).schedule
        return build(self.schedule, ranks=self.ranks, microbatches=self.microbatches)

    def _costs(self) -> Costs:
        return Costs(forward=self.forward, backward=self.backward, latency=self.latency)

    def _limit(self, name: str) -> list:
        low, high, step = self.limits.get(name, LIMITS[name])
        return [low, max(high, getattr(self, name)), step]

    def _choice(self, name: str) -> dict:
        found = entry(name)
        problem = found.problem(self.ranks, self.microbatches, None)
        return {"name": name, "title": found.title, "summary": found.summary, "problem": problem}

    def _publish(self, training: Training, **traits) -> None:
        with self._lock, self.hold_sync():
            if training is not self._training:
                return  # the settings have changed since: this run's news belong to another picture
            for name, value in traits.items():
                setattr(self, name, value)

    def _told(self, content: dict) -> None:
        {"run": self.run, "stop": self.stop}[content["action"]]()

    def _repr_mimebundle_(self, **kwargs):
        """The live view, and a static SVG for viewers without a kernel."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        if self.timeline:
            data["image/svg+xml"] = svg(self.timeline)
        return data, metadata


def lab(
    schedule: str = "1f1b",
    *,
    ranks: int = 4,
    microbatches: int = 8,
    forward: float = 1.0,
    backward: float = 2.0,
    latency: float = 0.0,
) -> Lab:
    """The live lab: put it last in a notebook cell, or ``display`` it.

    schedule: a name of the catalogue. ranks: devices, one stage of the model each. microbatches: pieces of a batch.
    forward, backward: cost of one stage for one micro-batch, and latency: time from rank to rank, all in abstract units.
    Raises UnknownName for an unknown schedule, traitlets.TraitError or UsageError for impossible numbers.

    The pool of workers warms up in the background, so that the first real run starts at once.
    """
    widget = Lab(
        schedule=schedule, ranks=ranks, microbatches=microbatches, forward=forward, backward=backward, latency=latency
    )
    threading.Thread(target=_warm, name="pipelab-warm", daemon=True).start()
    return widget


def _warm() -> None:
    from ..engine import warm

    warm()
    from ..engine import start  # noqa: F401 - imports torch: seconds that the first real run should not wait for
