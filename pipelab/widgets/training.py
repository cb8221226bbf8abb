"""One real run behind the lab: started, watched and stopped without ever holding up a cell."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean
from typing import Any, Protocol, runtime_checkable

from ..errors import RunCancelled
from ..plots import live_view
from ..simulator import Costs
from ..timeline import Timeline, gap
from .settings import Settings
from .sizes import SAMPLES

PACE_MS = 10.0
"""Milliseconds of one unit of cost in a paced run: a hundred times what the small model needs."""
POLL_S = 1 / 12
"""Between two looks at a run: each costs kernel and browser time that the workers of a small
machine lack.
"""
PACED_RUN_MS = 4000
"""A paced run repeats its step for about this long, within 5 to 20 steps: enough to see the loss
fall.
"""

IDLE = {
    "state": "idle",
    "message": "Run for real: this schedule trains a small model in real worker processes.",
}
_WHAT = {"mlp": "an MLP on spirals", "gpt": "a small GPT on Python's own sources"}


@runtime_checkable
class RealRun(Protocol):
    """What the lab needs of a real run; `pipelab.engine.Run` has it."""

    @property
    def done(self) -> bool: ...
    @property
    def losses(self) -> list[float]: ...
    @property
    def timeline(self) -> Timeline: ...
    @property
    def predicted(self) -> Timeline: ...
    @property
    def costs(self) -> Costs: ...
    @property
    def gradient_error(self) -> float | None: ...
    @property
    def gradient_note(self) -> str | None: ...
    @property
    def device(self) -> str: ...
    @property
    def workers(self) -> str: ...
    @property
    def transport(self) -> str: ...

    def snapshot(self) -> dict[str, Any]:
        """The step that is going on, and what of it has ended."""

    def cancel(self) -> None:
        """Stop the run; `wait` then raises RunCancelled."""

    def wait(self) -> object:
        """Wait for the end, and raise what the run raised."""


class Training:
    """Trains a small model with a predicted timeline's schedule in the background and tells
    ``publish`` how it goes.

    settings: what was predicted. paced: whether an action lasts as long as its cost says; else as
    long as this machine needs. publish(training, **news): called, mostly from the background
    thread, with new values for the lab's traits ``progress`` and ``measured``, and at the end with
    ``timelines`` and the ``costs`` that the last prediction is from; whether they are still wanted
    is the lab's business.
    """

    def __init__(
        self, settings: Settings, timeline: Timeline, *, paced: bool, publish: Callable[..., None]
    ):
        self.settings, self.schedule, self.paced = settings, timeline.schedule, paced
        self.measured_costs: Costs | None = None
        self._units = timeline.makespan
        self._publish = publish
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._run: RealRun | None = None
        self._thread = threading.Thread(target=self._work, name="pipelab-lab-run", daemon=True)

    @property
    def busy(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._tell("starting", "Starting the workers …")
        self._thread.start()

    def stop(self) -> None:
        """Cancels the run, also one that is still being started."""
        with self._lock:
            self._stopping.set()
            run = self._run
        if run is not None:
            run.cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end; whether it came in time."""
        self._thread.join(timeout)
        return not self.busy

    def _tell(self, state: str, message: str, about: dict | None = None, **news) -> None:
        self._publish(self, progress={"state": state, "message": message, **(about or {})}, **news)

    def _work(self) -> None:
        try:
            run, steps, what = self._begin()
            self._follow(run, steps, what)
            run.wait()
            self._finish(run, what)
        except RunCancelled:
            self._tell("stopped", "Stopped.", measured={})
        except Exception as error:  # whatever went wrong belongs before the person's eyes
            self._tell("failed", str(error) or repr(error), measured={})

    def _begin(self) -> tuple[RealRun, int, str]:
        """Builds the model and starts the run. Imports torch, hence here, in the background."""
        from ..engine import start
        from ..model import workload

        schedule, settings = self.schedule, self.settings
        name = settings.model if settings.model != "auto" else "mlp" if self.paced else "gpt"
        name = "mlp" if schedule.stages == 1 else name  # a gpt has at least two layers
        job = workload(
            name,
            layers=schedule.stages,
            width=settings.width,
            batch=SAMPLES[name] * schedule.microbatches,
        )
        seconds = PACE_MS / 1000
        steps = 20
        options = {}
        if self.paced:
            steps = min(20, max(5, math.ceil(PACED_RUN_MS / (PACE_MS * self._units))))
            options = {
                "pace": scaled(settings.costs(schedule.stages), seconds),
                "latency": settings.latency * seconds,
            }
        if settings.recompute == "in-backward":  # early recomputation stands in the schedule itself
            options["recompute"] = settings.recompute
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
                **options,
            )
        return run, steps, _WHAT[name]

    def _follow(self, run: RealRun, steps: int, what: str) -> None:
        """Streams the measured bars while the run lasts."""
        seen = None
        while not run.done:
            snapshot = run.snapshot()
            events, losses = len(snapshot["columns"]["started"]), snapshot["losses"]
            if events and (snapshot["step"], events, len(losses)) != seen:
                seen = (snapshot["step"], events, len(losses))
                message = f"Training {what}: step {snapshot['step'] + 1} of {steps}"
                about = {"losses": list(losses), "steps": steps}
                self._tell(
                    "running",
                    message,
                    about=about,
                    measured=live_view(snapshot["columns"], self.schedule),
                )
            time.sleep(POLL_S)

    def _finish(self, run: RealRun, what: str) -> None:
        """Lays the last measured step over its prediction: from the pace, or from the costs
        measured in the raw run.
        """
        added = self.settings.latency * PACE_MS / 1000 if self.paced else 0.0
        self.measured_costs = replace(run.costs, latency=max(0.0, run.costs.latency - added))
        parts = gap(run.timeline, run.predicted)
        about = {
            "losses": list(run.losses),
            "steps": len(run.losses),
            "gradient_error": run.gradient_error,
            "gradient_note": run.gradient_note,
            "gap": {name: [1000 * value for value in values] for name, values in parts.items()},
        }
        message = (
            f"Trained {what}: {len(run.losses)} steps on {run.device}, {run.workers}, "
            f"{run.transport}. The last is shown."
        )
        if self.paced:  # the prediction is already there, on the same axis
            self._tell("done", message, about=about, timelines={"measured": run.timeline})
        else:
            timelines = {"predicted": run.predicted, "measured": run.timeline}
            self._tell("done", message, about=about, timelines=timelines, costs=run.costs)


def scaled(costs: Costs, factor: float) -> Costs:
    """F, I, W and recomputation times a factor; without latency."""

    def times(value):
        return tuple(x * factor for x in value) if isinstance(value, tuple) else value * factor

    names = ("forward", "input_grad", "weight_grad")
    durations = costs.durations
    return Costs(
        **{name: times(durations[name]) for name in names}, recompute=times(costs.recompute)
    )


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
    whole = [
        sum(parts)
        for parts in _rows(columns["forward"], columns["input_grad"], columns["weight_grad"])
    ]
    mean = fmean(whole)
    backward = fmean(columns["input_grad"]) + fmean(columns["weight_grad"])
    alone = max(0.0, 1 - unit / backward) if settings.recompute == "in-backward" else 1.0
    return settings.with_changes(
        forward=1.0,
        input_grad=_rounded(alone * fmean(columns["input_grad"]) / unit),
        weight_grad=_rounded(alone * fmean(columns["weight_grad"]) / unit),
        latency=round(costs.latency / unit, 3),
        stage_costs=tuple(_rounded(cost / mean) for cost in whole) if len(whole) > 1 else (),
    )


def _list(value) -> list[float]:
    return list(value) if isinstance(value, tuple) else [value]


def _rows(*columns: list[float]):
    length = max(map(len, columns))
    return zip(*(column * (length if len(column) == 1 else 1) for column in columns), strict=True)


def _rounded(value: float) -> float:
    """Three decimals, and above 0: a cost of nothing is none."""
    return max(round(value, 3), 0.001)
