"""What is known of a run once it has finished."""

import copy
import os
import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any

import cloudpickle
import numpy as np
import torch

from ..errors import UsageError
from ..schedule import Kind
from ..simulator import Costs
from ..timeline import Timeline, gap
from .going import Event, Going
from .job.rank_job import RankResult
from .record import trace
from .reference.unsplit import Reference
from .setup.home import join, join_states
from .setup.setup import Setup
from .stage.randomness import Seeds
from .travel import checkpoint
from .travel.ship import pack, unpack


class Run(Going):
    """A training run, while it goes on (``Going``) and afterwards.

    schedule: what is executed; where stages share parameters, with the REDUCE_GRAD that sums their
    gradients. losses: one per finished step, the mean over its batch. device, workers, transport,
    executor: what it runs on. partition_note: what ``partition="auto"`` has chosen, else None. The
    rest is there once the run has finished; before, it waits for
    that (``wait``).
    """

    def __init__(
        self,
        setup: Setup,
        on_event: Callable[[Event], None] | None,
        *,
        partition_note: str | None = None,
    ):
        super().__init__(setup, on_event, partition_note=partition_note)
        self._lock = threading.Lock()
        self._timelines: dict[int, Timeline] = {}

    @property
    def timeline(self) -> Timeline:
        """What happened in the last step, in seconds."""
        return self._timeline(self._setup.recipe.steps - 1)

    @property
    def timelines(self) -> list[Timeline]:
        """What happened in each step."""
        return [self._timeline(step) for step in range(self._setup.recipe.steps)]

    @property
    def metrics(self) -> dict:
        """The numbers of the last step: the keys of ``pipelab simulate --json``, in seconds."""
        return self.timeline.metrics

    @cached_property
    def costs(self) -> Costs:
        """Measured medians per stage and kind, in seconds.

        The latency is that of a transfer that somebody waited for.
        """
        return trace.measured_costs(self._setup.world, self.timelines)

    @cached_property
    def predicted(self) -> Timeline:
        """What the simulator expects: from the pace, else from the measured costs.

        Of a paced run it is known at once.
        """
        return self._setup.planned or self._setup.predicted(self.costs)

    @cached_property
    def gap(self) -> dict[str, list[float]]:
        """Measured minus predicted, in seconds, in parts that sum to it on every rank.

        See ``timeline.gap``.
        """
        return gap(self.timeline, self.predicted)

    @cached_property
    def gradients(self) -> dict[str, torch.Tensor]:
        """Gradients of the last step by parameter name; parameters without one are left out."""
        return self._joined([result.gradients for result in self.results()])

    @property
    def state_dict(self) -> dict[str, torch.Tensor]:
        """What the unsplit model's ``state_dict`` would be after the last step."""
        results = self.results()
        trained: dict[str, Any] = self._joined([result.state for result in results])
        for result in results:
            if result.extra_state:
                trained |= cloudpickle.loads(result.extra_state)
        state: dict[str, Any] = {}
        for _, name, module in self._setup.layers:
            state |= module.state_dict(prefix=f"{name}.")
        for name, value in state.items():
            if name in trained:
                state[name] = trained[name]
            else:
                is_tensor = isinstance(value, torch.Tensor)
                state[name] = value.detach().clone() if is_tensor else copy.deepcopy(value)
        return state

    @property
    def peak_activation_bytes(self) -> list[int]:
        """The most bytes of saved activations on each rank in the last step."""
        held, offsets = self.timeline.bytes_held, self._setup.world.offsets
        return [
            int(held[low:high].max()) for low, high in zip(offsets[:-1], offsets[1:], strict=True)
        ]

    @property
    def bytes_by_collective(self) -> list[dict[str, int]]:
        """Bytes that each worker sent in the last step, by what for.

        tensor: between those who share a layer; reduce_grad: gradients; unshard: weights; pipeline:
        activations and gradients of them to other stages. What passes between the last action and
        the next step is in none: the norm for clipping, and with ``sequence_parallel`` the sums of
        the norms' gradients over those who share a layer.
        """
        timeline, found = self.timeline, []
        inside = np.zeros(len(timeline.kind))
        if timeline.collective_bytes is not None:
            inside = timeline.collective_bytes
        for low, high in timeline.schedule.slices:
            kind, sent = timeline.kind[low:high], timeline.bytes_sent[low:high]
            reduce, unshard = kind == Kind.REDUCE_GRAD, kind == Kind.UNSHARD
            parts = {
                "tensor": inside[low:high],
                "reduce_grad": sent[reduce],
                "unshard": sent[unshard],
                "pipeline": sent[~reduce & ~unshard],
            }
            found.append({name: int(values.sum()) for name, values in parts.items()})
        return found

    @property
    def peak_bytes(self) -> list[dict[str, int]]:
        """What each worker held, by part, each at its largest moment.

        weights, gradients and optimizer: what it holds for good; gathered: weights of a stage while
        it runs (ZeRO 3); activations: saved ones; versions: stashed weights.
        """
        found = []
        for result, activations in zip(self.results(), self.peak_activation_bytes, strict=True):
            found.append(result.bytes | {"activations": activations})
        return found

    @property
    def peak_memory_bytes(self) -> list[int] | None:
        """The most bytes that torch's allocator held on the GPU of each rank.

        Weights, gradients, the optimizer's state, activations and working memory; of threads that
        share a GPU, all of theirs together. None on processors.
        """
        if self.device == "cpu":
            return None
        return [result.peak_memory or 0 for result in self.results()]

    @property
    def peak_reserved_bytes(self) -> list[int] | None:
        """The most bytes that torch's allocator had taken from the GPU of each rank.

        It holds no less; the rest is kept for later, or waits until another rank has read it. None
        on processors.
        """
        if self.device == "cpu":
            return None
        return [result.peak_reserved or 0 for result in self.results()]

    @property
    def waited_for_python(self) -> list[float] | None:
        """The share of the time in which each rank computed that its GPU waited for Python.

        That is when it was done as soon as Python had queued an action. The first of several steps
        does not count. None on processors, and in paced runs.
        """
        waited = [result.waited_for_host for result in self.results()]
        return [share for share in waited if share is not None] or None

    @property
    def advice(self) -> str | None:
        """How long GPUs waited for Python, and what to do about it; None without GPUs."""
        waited = self.waited_for_python
        return None if waited is None else self._setup.where.advice(waited, self.schedule.ranks)

    @property
    def gradient_error(self) -> float | None:
        """The largest relative error of a parameter's gradient against the unsplit model.

        That is the maximum over p of ‖Δ‖₂ / max(‖g_p‖₂, 10⁻³ ‖g‖₂). It is computed once, when first
        asked for, in a worker. None where there is nothing to compare with: see ``gradient_note``.
        """
        return self._checked_gradients[0]

    @property
    def gradient_note(self) -> str | None:
        """What the gradients were compared with, or why they cannot be.

        None where it is one pass of the unsplit model over the full batch.
        """
        return self._checked_gradients[1]

    def save(self, path: str | os.PathLike) -> None:
        """Write a checkpoint for ``run(..., resume=path)``, whole or not at all.

        A file of ``torch.save``: "model" is a state_dict that the unsplit model loads, "optimizer"
        one for an optimizer of all its parameters.
        """
        state = self.state_dict
        parts = join_states(
            [
                None if result.optimizer is None else checkpoint.from_bytes(result.optimizer)
                for result in self.results()
            ],
            self._setup,
        )
        order = list(dict(checkpoint.named_parameters(self._setup.layers)))
        rest = {"step": self._setup.first_step + self._setup.recipe.steps, "seed": self.seed}
        checkpoint.write(path, {"model": state} | checkpoint.merge(parts, order) | rest)

    def results(self) -> list[RankResult]:
        """What each rank brought home.

        Raises UsageError where that is not here but on rank 0 of torchrun's processes.
        """
        self.wait()
        results = [result for result in self._driver.results if result is not None]
        if len(results) < self._setup.world.ranks:
            raise UsageError(
                "Gradients and weights are on rank 0: ask there (torch.distributed.get_rank() == "
                "0)."
            )
        return results

    def _joined(self, found: list[dict[str, tuple]]) -> dict[str, torch.Tensor]:
        """What the workers have brought, by name, as the unsplit model has it."""
        return join([unpack(each) for each in found], self._setup)

    def _timeline(self, step: int) -> Timeline:
        self.wait()
        with self._lock:
            if step not in self._timelines:
                watch = self._driver.watch
                queued = None if watch.queued is None else watch.queued[step]
                self._timelines[step] = trace.timeline(
                    self._setup.world, watch.traces[step], queued, self.mesh
                )
            return self._timelines[step]

    @cached_property
    def _checked_gradients(self) -> tuple[float | None, str | None]:
        setup, gradients = self._setup, self.gradients
        if Kind.STEP in setup.schedule.kinds:
            why = "micro-batches of one step saw weights of several versions"
            return None, f"nothing to compare with: {why}"
        before = pack(self._joined([result.before for result in self.results()]))
        batch, recipe = self._driver.watch.last_batch, setup.recipe
        assert batch is not None
        reference = Reference(
            layers=setup.own_layers,
            loss=setup.loss,
            dtype=recipe.dtype,
            device=setup.where.device,
            before=before,
            batch=batch,
            seeds=Seeds(self.seed, setup.first_step + recipe.steps - 1),
        )
        return reference.compare(gradients)
