"""A run while it goes on."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from ..schedule import Kind, Mesh
from .hosts.driver import Driver
from .hosts.watch import Progress
from .record import trace
from .setup.setup import Setup

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


class Going:
    """A training run while it goes on.

    schedule: what is executed; where stages share parameters, with the REDUCE_GRAD that sums their
    gradients. losses: one per finished step, the mean over its batch. error: what it ended with, if
    it failed. partition_note: what ``partition="auto"`` has chosen, else None.
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
        """How tensors get from rank to rank.

        Processes on GPUs know it when they have met: until then it is what they will try.
        """
        return self._driver.carrier

    @property
    def done(self) -> bool:
        """Whether the run has ended, well or not."""
        return self._finished.is_set()

    def begin(self) -> Self:
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

    def wait(self, timeout: float | None = None) -> Self:
        """Waits for the end and returns the run.

        Raises what the run raised; TimeoutError after ``timeout`` seconds.
        """
        if not self._finished.wait(timeout):
            raise TimeoutError(f"the run is still going on after {timeout} s")
        if self.error is not None:
            raise self.error
        return self

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
