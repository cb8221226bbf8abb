"""A real run of a person's own model behind the cuts: its stages are those that the cuts make."""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from ..errors import RunCancelled
from ..layout import Partition
from ..simulator import Costs, Memory, simulate
from ..timeline import Timeline
from .settings import Settings
from .training import MOST_STEPS, PACED_RUN_MS, SPARE, RealRun, Training, scaled, times

RAW_STEPS, PACED_STEPS = 10, 3
"""Steps of a run; of a paced one at least."""
STEP_S = 0.8
BUSY_SHARE = 0.4
"""Of the processors' time, what paced actions may really compute: that of ``engine.setup.pacing``,
which would import torch."""


class Trained(Protocol):
    """What a run needs of a model; ``pipelab.model.Workload`` has it.

    ``batches(step)`` gives (inputs, targets), ``optimizer(parameters)`` makes an optimizer.
    """

    model: Any
    batches: Callable[[int], Any]
    loss_fn: Callable[..., Any]
    optimizer: Callable[..., Any]


class CutRun(Training):
    """A model that trains in the stages of a Partition, paced by its costs, or raw."""

    def __init__(
        self,
        job: Trained,
        found: Partition,
        *,
        slower: float,
        paced: bool,
        publish: Callable[..., None],
    ):
        """Prepare a run.

        Args:
            job: what is trained.
            found: the cuts, with their prediction.
            slower: of a paced run, how many times as long as measured an action lasts.
            paced: whether an action lasts as long as its costs say, times ``slower``.
            publish: told how the run goes, as for ``Training``.
        """
        super().__init__(
            Settings(hold="microbatch"),
            found.timeline,
            paced=paced,
            unit_ms=1000 * slower,  # the unit of the prediction is a second
            publish=publish,
        )
        self._job, self._found = job, found

    def _begin(self) -> tuple[RealRun, int, str]:
        from ..engine import start

        job, found, steps = self._job, self._found, RAW_STEPS
        if self.paced:
            steps = math.ceil(PACED_RUN_MS / (self._unit_ms * self._units))
            steps = min(MOST_STEPS, max(PACED_STEPS, steps))
        with self._lock:
            if self._stopping.is_set():
                raise RunCancelled("stopped before it began")
            self._run = run = start(
                job.model,
                job.batches,
                None,
                job.loss_fn,
                schedule=found.schedule,
                optimizer=job.optimizer,
                steps=steps,
                partition=found.sizes,
                pace=scaled(found.costs, self._unit_ms / 1000) if self.paced else None,
            )
        return run, steps, f"your model of {sum(found.sizes)} layers"


def slowed(found: Partition, slower: float) -> Timeline:
    """The prediction of cuts if all takes ``slower`` times as long, with activations over time."""
    given, link = found.costs, found.link
    costs = Costs(
        forward=times(given.forward, slower),
        input_grad=times(given.durations["input_grad"], slower),
        weight_grad=times(given.durations["weight_grad"], slower),
        message=given.message,
        latency=slower * link.latency,
        bandwidth=None if link.bandwidth is None else link.bandwidth / slower,
    )
    memory = Memory(
        activations=found.memory.activations,
        deferred_activations=found.memory.deferred_activations,
        deferred_gradients=found.memory.deferred_gradients,
    )
    timeline = simulate(found.schedule, costs, memory=memory)
    return replace(timeline, unit="s", memory={})  # activations alone, as a run measures them


def slowdown(even_s: float, ranks: int) -> float:
    """How much slower than measured a paced run must be on this machine.

    even_s: seconds of a step with even cuts, which is stretched to ``STEP_S`` at least.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = BUSY_SHARE * min(1.0, (cores or 1) / ranks)
    return float(f"{max(SPARE / share, STEP_S / even_s if even_s else 1.0):.2g}")
