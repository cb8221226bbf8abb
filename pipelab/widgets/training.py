"""One real run behind the lab: started, watched and stopped without ever holding up a cell."""

import math
import threading
import time
from collections.abc import Callable

from ..errors import RunCancelled
from ..plots import live_view, view
from ..schedule import Schedule
from ..simulator import Costs, simulate

PACE_MS = 10.0
"""Milliseconds of one unit of cost in a paced run: a hundred times what the small model needs."""
POLL_S = 1 / 12
"""Between two looks at a run: each costs kernel and browser time that the workers of a small machine lack."""
PACED_RUN_MS = 4000
"""A paced run repeats its step for about this long, within 5 to 20 steps: enough to see the loss fall."""

IDLE = {"state": "idle", "message": "Run for real: this schedule trains a small model in real worker processes."}


class Training:
    """Trains a small model with ``schedule`` in the background and tells ``publish`` how it goes.

    costs: in units, for the pace and the latency. paced: whether an action lasts as long as its cost says; else as long
    as this machine needs. publish(training, **traits): called, mostly from the background thread, with new values for the
    lab's traits ``progress``, ``predicted`` and ``measured``; whether they are still wanted is the lab's business.
    """

    def __init__(self, schedule: Schedule, costs: Costs, *, paced: bool, publish: Callable[..., None]):
        self.schedule, self.costs, self.paced = schedule, costs, paced
        self._publish = publish
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._run = None
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

    def _tell(self, state: str, message: str, about: dict | None = None, **pictures: dict) -> None:
        self._publish(self, progress={"state": state, "message": message, **(about or {})}, **pictures)

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

    def _begin(self):
        """Builds the model and starts the run. Imports torch, hence here, in the background."""
        from ..engine import start
        from ..model import workload

        schedule = self.schedule
        if self.paced or schedule.stages == 1:  # a gpt has at least two layers
            what = "an MLP on spirals"
            job = workload("mlp", layers=schedule.stages, width=64, batch=16 * schedule.microbatches)
        else:
            what = "a small GPT on Python's own sources"
            job = workload("gpt", layers=schedule.stages, width=64, batch=4 * schedule.microbatches)
        seconds = PACE_MS / 1000
        steps = 20
        options = {}
        if self.paced:
            steps = min(20, max(5, math.ceil(PACED_RUN_MS / (PACE_MS * simulate(schedule, self.costs).makespan))))
            pace = Costs(forward=self.costs.forward * seconds, backward=self.costs.backward * seconds)
            options = {"pace": pace, "latency": self.costs.latency * seconds}
        with self._lock:
            if self._stopping.is_set():
                raise RunCancelled("stopped before it began")
            self._run = start(
                job.model, job.batches, None, job.loss_fn, schedule=schedule, ranks=schedule.ranks,
                microbatches=schedule.microbatches, optimizer=job.optimizer, steps=steps, **options,
            )  # fmt: skip
        return self._run, steps, what

    def _follow(self, run, steps: int, what: str) -> None:
        """Streams the measured bars while the run lasts."""
        seen = None
        while not run.done:
            snapshot = run.snapshot()
            events, losses = len(snapshot["columns"]["started"]), snapshot["losses"]
            if events and (snapshot["step"], events, len(losses)) != seen:
                seen = (snapshot["step"], events, len(losses))
                message = f"Training {what}: step {snapshot['step'] + 1} of {steps}"
                about = {"losses": list(losses), "steps": steps}
                self._tell("running", message, about=about, measured=live_view(snapshot["columns"], self.schedule))
            time.sleep(POLL_S)

    def _finish(self, run, what: str) -> None:
        """Lays the last measured step over its prediction: from the pace, or from the costs measured in the raw run."""
        about = {
            "losses": list(run.losses),
            "steps": len(run.losses),
            "gradient_error": run.gradient_error,
            "gradient_note": run.gradient_note,
        }
        message = f"Trained {what}: {len(run.losses)} steps on {run.device}, {run.workers}, {run.transport}. The last is shown."
        self._tell("done", message, about=about, predicted=view(run.predicted), measured=view(run.timeline))
