"""One real run behind the lab: started, watched and stopped without ever holding up a cell."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import fmean
from typing import Any, Protocol, runtime_checkable

from ..errors import PaceTooFast, RunCancelled, UsageError
from ..plots import live_view
from ..simulator import Costs
from ..simulator.costs import PerStage
from ..timeline import Timeline, gap
from .profiled import Profiled
from .settings import WHOLE, Settings, work

PACE_MS = 10.0
"""Milliseconds of one unit of cost in a paced run: a hundred times what the small model needs. With
hold="batch", of the shortest action.
"""
SPARE = 1.6
"""What actions may really take longer than they were measured."""
MOST_SLOWER = 20
"""How much slower a pace may become for a machine that cannot keep it."""
BUSY = 1.1
"""The longest step over the shortest one, from which on a machine is called busy."""
POLL_S = 1 / 12
"""Between two looks at a run: each costs kernel and browser time that the workers of a small
machine lack.
"""
PACED_RUN_MS = 4000
"""A paced run repeats its step for about this long."""
FEWEST_STEPS, MOST_STEPS = 5, 20
"""Steps of a real run: enough to see the loss fall."""
News = dict[str, Any]

IDLE = {
    "state": "idle",
    "message": "Run for real: this schedule trains a small model in real worker processes.",
}
SLOWED = "The processors are too slow or too busy for the usual pace, so this one is slower."
_SHARED = "Another run of this notebook goes on beside it: they share the processors."
_ALL = threading.Lock()
_going_on: list["Training"] = []
"""Runs of this process that have been started; those that have ended are dropped at the next."""
_WHAT = {"mlp": "an MLP on spirals", "gpt": "a small GPT on Python's own sources"}


@runtime_checkable
class RealRun(Protocol):
    """What the lab needs of a real run; `pipelab.engine.Run` has it."""

    losses: list[float]

    @property
    def done(self) -> bool:
        """Whether the run has ended, well or not."""

    @property
    def timelines(self) -> list[Timeline]:
        """The steps, as they were measured."""

    @property
    def predicted(self) -> Timeline:
        """The same step as the pace, or else the measured costs, predict it."""

    @property
    def costs(self) -> Costs:
        """The measured costs per stage."""

    @property
    def gradient_error(self) -> float | None:
        """How far the gradients are from the unsplit model's; None where none can be compared."""

    @property
    def gradient_note(self) -> str | None:
        """What they were compared with, or why they were not."""

    @property
    def device(self) -> str:
        """The kind of device it runs on."""

    @property
    def device_note(self) -> str | None:
        """Why it runs there, where that is not what one would expect."""

    @property
    def advice(self) -> str | None:
        """How long GPUs waited for Python, and what to do about it; None without GPUs."""

    @property
    def workers(self) -> str:
        """The kind of workers: processes or threads."""

    @property
    def transport(self) -> str:
        """The way in which tensors travel."""

    def snapshot(self) -> dict[str, Any]:
        """The step that is going on, and what of it has ended."""

    def cancel(self) -> None:
        """Stop the run; `wait` then raises RunCancelled."""

    def wait(self) -> object:
        """Wait for the end, and raise what the run raised."""


class Training:
    """A small model that trains in the background under a predicted timeline's schedule.

    ``publish(training, **news)`` is called, mostly from the background thread, with new values for
    the widget's traits ``progress`` and ``run_picture``, with ``unit_ms`` where the machine needs a
    slower pace, and at the end with ``timelines`` and the ``costs`` that the last prediction is
    from. Whether they are still wanted is the widget's business.
    """

    def __init__(
        self,
        settings: Settings,
        timeline: Timeline,
        *,
        paced: bool,
        unit_ms: float,
        publish: Callable[..., None],
    ):
        """Prepare a run.

        Args:
            settings: what was predicted.
            timeline: the prediction.
            paced: whether an action lasts as long as its cost says; else it lasts as long as this
                machine needs.
            unit_ms: of a paced run, the milliseconds of one unit of cost.
            publish: told how the run goes.
        """
        self.settings = settings
        self.schedule = timeline.schedule
        self.paced = paced
        self.measured_costs: Costs | None = None
        self._steps: list[Timeline] = []
        self._predicted: Timeline | None = None
        self._costs: Costs | None = None
        self._units = timeline.makespan
        self._unit_ms = unit_ms
        self._slowed = False
        self._publish = publish
        self.shared = False
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._run: RealRun | None = None
        self._thread = threading.Thread(target=self._work, name="pipelab-lab-run", daemon=True)

    @property
    def busy(self) -> bool:
        """Whether the run is still going on."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the run and return at once."""
        with _ALL:
            others = [other for other in _going_on if other.busy]
            _going_on[:] = [*others, self]
        for one in others:
            one.shared = self.shared = True
        self._tell("starting", f"Starting the workers … {_SHARED if others else ''}".strip())
        self._thread.start()

    def stop(self) -> None:
        """Cancel the run, also one that is still being started."""
        with self._lock:
            self._stopping.set()
            run = self._run
        if run is not None:
            run.cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; returns whether it came in time."""
        self._thread.join(timeout)
        return not self.busy

    def step(self, step: int) -> News:
        """What is shown of a step, once the run has ended: its timelines, costs and gap.

        Raises UsageError where there is no such step.
        """
        if self._predicted is None or not 0 <= step < len(self._steps):
            known = f"0 to {len(self._steps) - 1}" if self._steps else "none: run first"
            raise UsageError(f"There is no step {step} to show; there is {known}.")
        measured = self._steps[step]
        parts = gap(measured, self._predicted)
        timelines = {"measured": measured}
        if not self.paced:  # a paced run's prediction is already there, on the same axis
            timelines = {"predicted": self._predicted, "measured": measured}
        about = {
            "step": step,
            "gap": {name: [1000 * value for value in values] for name, values in parts.items()},
        }
        return {"about": about, "timelines": timelines, "costs": self._costs}

    def _tell(self, state: str, message: str, about: News | None = None, **news: Any) -> None:
        self._publish(self, progress={"state": state, "message": message, **(about or {})}, **news)

    def _work(self) -> None:
        try:
            self._finish(*self._train())
        except RunCancelled:
            self._tell("stopped", "Stopped.", run_picture={})
        except Exception as error:  # whatever went wrong belongs before the person's eyes
            self._tell("failed", str(error) or repr(error), run_picture={})

    def _train(self) -> tuple[RealRun, str]:
        """Run to the end, at the pace planned or else at one that this machine can keep."""
        most = MOST_SLOWER * self._unit_ms
        while True:
            run, steps, what = self._begin()
            try:
                self._follow(run, steps, what)
                run.wait()
                return run, what
            except PaceTooFast as error:
                slower = float(f"{self._unit_ms * error.slower * SPARE:.2g}")
                if slower > most:
                    raise
                self._unit_ms, self._slowed = slower, True
            self._tell("starting", f"{SLOWED} Starting again …", unit_ms=slower)

    def _begin(self) -> tuple[RealRun, int, str]:
        """Build the model and start the run. Imports torch, hence here, in the background."""
        from ..engine import start
        from ..model import workload

        schedule, settings = self.schedule, self.settings
        name = self._model()
        layers, samples = work(settings.with_changes(model=name), schedule.stages)
        job = workload(name, layers=layers, width=settings.width, batch=samples)
        seconds, steps = self._unit_ms / 1000, MOST_STEPS
        if self.paced:
            steps = math.ceil(PACED_RUN_MS / (self._unit_ms * self._units))
            steps = min(MOST_STEPS, max(FEWEST_STEPS, steps))
        # Early recomputation stands in the schedule itself.
        recompute = settings.recompute if settings.recompute == "in-backward" else None
        with self._lock:
            if self._stopping.is_set():
                raise RunCancelled("stopped before it began")
            self._run = run = start(
                job.model,
                job.batches,
                None,
                job.loss_fn,
                schedule=schedule,
                ranks=schedule.ranks,
                microbatches=schedule.microbatches,
                optimizer=job.optimizer,
                steps=steps,
                # equal stages: a GPT's embedding and head cost otherwise than its blocks
                partition=None if self.paced or layers == schedule.stages else "auto",
                pace=scaled(settings.costs(schedule.stages), seconds) if self.paced else None,
                latency=settings.latency * seconds if self.paced else 0.0,
                recompute=recompute,
            )
        return run, steps, _WHAT[name]

    def _model(self) -> str:
        """The name of the model: a paced run takes the small MLP, a raw one has work to show."""
        if self.schedule.stages == 1:
            return "mlp"  # a gpt has at least two layers
        if self.settings.model != "auto":
            return self.settings.model
        return "mlp" if self.paced else "gpt"

    def _follow(self, run: RealRun, steps: int, what: str) -> None:
        """Stream the measured bars while the run lasts."""
        seen: tuple[int, int, int] | None = None
        while not run.done:
            snapshot = run.snapshot()
            events, losses = len(snapshot["columns"]["started"]), snapshot["losses"]
            if events and (snapshot["step"], events, len(losses)) != seen:
                seen = (snapshot["step"], events, len(losses))
                message = f"Training {what}: step {snapshot['step'] + 1} of {steps}"
                about = {"losses": list(losses), "steps": steps}
                bars = live_view(snapshot["columns"], self.schedule)
                self._tell("running", message, about=about, run_picture=bars)
            time.sleep(POLL_S)

    def _finish(self, run: RealRun, what: str) -> None:
        """Lay the median of the measured steps over its prediction.

        That is from the pace, or from the costs that a raw run measured.
        """
        self._steps, self._predicted = run.timelines, run.predicted
        self._costs = None if self.paced else run.costs
        spans = [1000 * timeline.makespan for timeline in self._steps]
        shown = self.step(median_step(spans))
        added = self.settings.latency * self._unit_ms / 1000 if self.paced else 0.0
        latency = max(0.0, latency_of(run.costs) - added)
        self.measured_costs = replace(run.costs, latency=latency)
        about = shown["about"] | {
            "losses": list(run.losses),
            "steps": len(run.losses),
            "gradient_error": run.gradient_error,
            "gradient_note": run.gradient_note,
            "spans": spans,
        }
        message = (
            f"Trained {what}: {len(run.losses)} steps on {run.device}, {run.workers}, "
            f"{run.transport}. {spread(spans)}"
        )
        if self.paced:
            message += " Bars last as long as the pace says."
        if isinstance(self.settings, Profiled):
            message += " It is the lab's own model: its bytes are not those of the profile."
        if self._slowed:
            message += f" {SLOWED}"
        if self.paced and self.settings.one_batch:
            message += f" One device alone: {WHOLE:g} = {WHOLE * self._unit_ms / 1000:.3g} s."
        for note in filter(None, [run.device_note, run.advice]):
            message += f" {note[0].upper()}{note[1:]}."
        if self.shared:
            message += f" {_SHARED}"
        found = {"timelines": shown["timelines"], "costs": shown["costs"]}
        self._tell("done", message, about=about, **found)


def median_step(spans: list[float]) -> int:
    """The step whose length is the median (of two, the shorter one) of those after the first.

    The first one's workers are cold.

    >>> median_step([9.0, 3.0, 5.0, 4.0])
    3
    """
    warm = sorted(range(len(spans)), key=spans.__getitem__)
    if len(spans) > 2:
        warm.remove(0)
    return warm[(len(warm) - 1) // 2]


def spread(spans: list[float]) -> str:
    """Which step is shown, and how far apart the steps are, in milliseconds.

    >>> spread([9.0, 3.0, 5.0, 4.0])
    'The median is shown, step 3. The processors were shared: steps 1 to 3 took 3 to 5 ms.'
    """
    at = median_step(spans)
    if len(spans) < 3:
        return f"Step {at} is shown."
    least, most = min(spans[1:]), max(spans[1:])
    text = f"teps 1 to {len(spans) - 1} took {least:.4g} to {most:.4g} ms."
    text = f"The processors were shared: s{text}" if most > BUSY * least else f"S{text}"
    return f"The median is shown, step {at}. {text}"


def unit_ms(settings: Settings, timeline: Timeline) -> float:
    """Milliseconds of one unit of cost in a paced run of this prediction."""
    if settings.one_batch:
        return PACE_MS / float(timeline.compute[timeline.compute > 0].min())
    return PACE_MS


def latency_of(costs: Costs) -> float:
    """The latency of costs that have one for all links, as those of the lab and of a run have."""
    if isinstance(costs.latency, int | float):
        return float(costs.latency)
    raise UsageError("the lab knows one latency for all links, not a table of them")


def scaled(costs: Costs, factor: float) -> Costs:
    """F, I, W and recomputation times a factor; without latency."""
    durations = costs.durations
    return Costs(
        forward=times(durations["forward"], factor),
        backward=times(durations["backward"], factor),
        input_grad=times(durations["input_grad"], factor),
        weight_grad=times(durations["weight_grad"], factor),
        recompute=times(costs.recompute, factor),
    )


def times(value: PerStage, factor: float) -> PerStage:
    """A cost times a factor, of every stage."""
    if isinstance(value, int | float):
        return value * factor
    return tuple(one * factor for one in value)


def measured_settings(settings: Settings, costs: Costs) -> Settings:
    """The settings with measured costs (in seconds): one unit is the mean forward.

    A stage's cost is its F, I and W together, relative to the mean; F : I : W is that of all stages
    together. Where backwards recompute, a forward is taken off what was measured, for the
    prediction adds it again.

    >>> measured = Costs(forward=[0.001, 0.003], backward=[0.002, 0.006])
    >>> measured_settings(Settings(), measured).stage_costs
    (0.5, 1.5)
    """
    columns = {name: _list(value) for name, value in costs.durations.items() if name != "overlap"}
    unit = fmean(columns["forward"])
    parts = _rows(columns["forward"], columns["input_grad"], columns["weight_grad"])
    whole = [sum(row) for row in parts]
    mean = fmean(whole)
    backward = fmean(columns["input_grad"]) + fmean(columns["weight_grad"])
    alone = max(0.0, 1 - unit / backward) if settings.recompute == "in-backward" else 1.0
    measured = settings.with_changes(
        forward=1.0,
        input_grad=_rounded(alone * fmean(columns["input_grad"]) / unit),
        weight_grad=_rounded(alone * fmean(columns["weight_grad"]) / unit),
        overhead=0.0,  # it is a part of what was measured
        stage_costs=tuple(_rounded(cost / mean) for cost in whole) if len(whole) > 1 else (),
    )
    forward = fmean(_list(measured.costs(max(1, len(whole))).forward))
    return measured.with_changes(latency=round(latency_of(costs) / unit * forward, 3))


def _list(value: PerStage) -> list[float]:
    return [value] if isinstance(value, int | float) else list(value)


def _rows(*columns: list[float]) -> Iterator[tuple[float, ...]]:
    """The columns side by side; a column of one number goes on as long as the others."""
    length = max(map(len, columns))
    full = []
    for column in columns:
        full.append(column if len(column) == length else column * length)
    return zip(*full, strict=True)


def _rounded(value: float) -> float:
    """The value to three decimals, and above 0: a cost is never nothing."""
    return max(round(value, 3), 0.001)
