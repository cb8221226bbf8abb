"""A run while it goes on, and what is known of it afterwards."""

import copy
import os
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle
import numpy as np
import torch

from ..errors import UsageError
from ..schedule import Kind, Mesh
from ..simulator import Costs
from ..timeline import Timeline, gap
from .hosts.driver import Driver
from .hosts.watch import Progress
from .job.home import join, join_states
from .job.rank_job import RankResult
from .job.setup import Setup
from .rank.reference import Reference
from .record import trace
from .stage.randomness import Seeds
from .travel import checkpoint
from .travel.ship import pack, unpack

if TYPE_CHECKING:
    from .hosts.torchrun import TorchrunDriver


class Event(NamedTuple):
    """An action that a rank has just finished.

    started, ended: seconds on the machine's monotonic clock.
    """

    step: int
    rank: int
    stage: int
    microbatch: int
    kind: Kind
    started: float
    ended: float


class Run:
    """A training run, while it goes on and afterwards.

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
        self._setup = setup
        self.partition_note = partition_note
        self.schedule = setup.schedule
        self.seed = setup.recipe.seed or 0
        self.losses: list[float] = []
        self.error: BaseException | None = None
        self._on_event = on_event
        self._finished = threading.Event()
        self._driver = _driver_of(setup, self._progress)
        self._lock = threading.Lock()
        self._timelines: dict[int, Timeline] = {}
        self._thread = threading.Thread(target=self._work, name="pipelab run", daemon=True)

    @property
    def device(self) -> str:
        """The kind of device: "cpu" or "cuda"."""
        return self._setup.where.device

    @property
    def device_note(self) -> str | None:
        """Why it runs there, where that is not what one would expect."""
        return self._setup.where.note

    @property
    def mesh(self) -> Mesh:
        """How the pipeline is repeated and its layers are cut."""
        return self._setup.mesh

    @property
    def partition(self) -> list[int]:
        """The number of layers of each stage."""
        return [len(layers) for layers in self._setup.stages]

    @property
    def executor(self) -> str:
        """Whose engine: "pipelab" or "torch"."""
        return self._setup.where.executor

    @property
    def workers(self) -> str:
        """What the ranks are: "processes", "threads" or "torchrun"."""
        return self._setup.where.workers

    @property
    def transport(self) -> str:
        """How tensors get from rank to rank."""
        return self._driver.carrier

    @property
    def done(self) -> bool:
        """Whether the run has ended, well or not."""
        return self._finished.is_set()

    def begin(self) -> "Run":
        """Start the run in the background. Called once."""
        self._thread.start()
        return self

    def wait_quietly(self) -> None:
        """Wait for the end, whatever it is."""
        self._finished.wait()

    def cancel(self) -> None:
        """Stop the run: its workers are ended and ``wait`` raises RunCancelled.

        A finished run stays as it is.
        """
        self._driver.watch.cancelled.set()

    def wait(self, timeout: float | None = None) -> "Run":
        """Waits for the end and returns the run.

        Raises what the run raised; TimeoutError after ``timeout`` seconds.
        """
        if not self._finished.wait(timeout):
            raise TimeoutError(f"the run is still going on after {timeout} s")
        if self.error is not None:
            raise self.error
        return self

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

    def snapshot(self) -> dict:
        """Where the run stands, for drawing while it goes on.

        Keys: step, steps, losses, and columns: arrays of the finished actions of that step (rank,
        stage, microbatch, kind, started, ended, bytes_held, bytes_after; seconds from the step's
        first action).
        """
        step = min(len(self.losses), self._setup.recipe.steps - 1)
        atoms, rows = self._driver.watch.finished_rows(step)
        columns = {
            name: getattr(self._setup.world, name)[atoms]
            for name in ("rank", "stage", "microbatch", "kind")
        }
        values = trace.columns(rows)
        origin = values["started"].min() if len(rows) else 0.0
        columns |= {name: values[name] - origin for name in ("started", "ended")}
        columns |= {name: values[name] for name in ("bytes_held", "bytes_after")}
        return {
            "step": step,
            "steps": self._setup.recipe.steps,
            "losses": list(self.losses),
            "columns": columns,
        }

    def __repr__(self) -> str:
        state = "running" if not self.done else "failed" if self.error else "done"
        return (
            f"<Run {self.schedule.name}: {self.schedule.ranks} ranks, "
            f"{len(self.losses)}/{self._setup.recipe.steps} steps, {state}>"
        )

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

    def _work(self) -> None:
        try:
            self._driver.run()
        except BaseException as error:  # also KeyboardInterrupt from a user's callable
            self.error = error
        finally:
            self._finished.set()

    def _progress(
        self, step: int, losses: list[float], atoms: np.ndarray, rows: np.ndarray
    ) -> None:
        """Note the newly finished actions: the driver calls this some 30 times a second."""
        self.losses[len(self.losses) :] = losses[len(self.losses) :]
        if self._on_event is None:
            return
        values, schedule = trace.columns(rows), self._setup.world
        for i in np.argsort(values["ended"], kind="stable").tolist():
            atom = int(atoms[i])
            action = schedule.atom(atom)
            self._on_event(
                Event(
                    step,
                    int(schedule.rank[atom]),
                    action.stage,
                    action.microbatch,
                    action.kind,
                    float(values["started"][i]),
                    float(values["ended"][i]),
                )
            )


def _driver_of(setup: Setup, progress: Progress) -> "Driver | TorchrunDriver":
    if setup.where.workers != "torchrun":
        return Driver(setup, progress)
    from .hosts.torchrun import TorchrunDriver  # torch.distributed only where it is used

    return TorchrunDriver(setup, progress)
