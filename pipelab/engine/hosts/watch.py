"""The watch over a run: its data, where every rank stands, and how long a wait may last.

Every wait of every rank is watched from here: who waits, for what, since when.
"""

import contextlib
import threading
import time
from collections.abc import Callable

import numpy as np

from ...errors import RunCancelled, RunError, WorkerStalled
from ...schedule import Kind
from ...schedule.kinds import COLLECTIVES
from ..job.batches import Batch
from ..record.board import BETWEEN, COMPUTING, TOGETHER, TRACE, WAITING, Board
from ..setup.rank_jobs import board_sizes, part_of_worker
from ..setup.setup import Setup

PREFETCH = 2
"""How many steps ranks can be apart, with one step of data made ahead."""
Progress = Callable[[int, list[float], np.ndarray, np.ndarray], None]
"""(step, losses, atoms, rows): the trace rows of newly finished actions."""


class DataEnded(RunError):
    """The callable that gives the data has none for a step that the run wants."""


class Watch:
    """What is known of a run while it goes on, and its traces afterwards.

    setup: what runs. progress: told what was finished. traces: shape (steps, atoms, columns).
    queued: shape (steps, ranks), or None where it is not known.
    """

    def __init__(self, setup: Setup, progress: Progress):
        self._setup, self._progress = setup, progress
        self._cancelled = threading.Event()
        self._lock = threading.Lock()  # of the board, which another thread may be drawing
        self._board: Board | None = None
        self._seen = [0] * setup.world.ranks
        self._batches: dict[int, Batch] = {}
        self._started = 0.0
        self.going = False
        self.traces = np.zeros((0, 0, len(TRACE)))
        self.queued: np.ndarray | None = None
        self.last_batch: Batch | None = None

    @property
    def board(self) -> Board:
        """The board of the run, between ``open`` and ``close``."""
        assert self._board is not None
        return self._board

    @property
    def cancelled(self) -> threading.Event:
        """Set when the user has stopped the run."""
        return self._cancelled

    def open(self) -> None:
        """Make the board."""
        self._board = Board(None, **board_sizes(self._setup))

    def launched(self) -> None:
        """The ranks have begun to get ready; from now on waits count."""
        self._started = time.perf_counter()

    def keep_traces(self, traces: np.ndarray, queued: np.ndarray | None = None) -> None:
        """What ``finished_rows`` shows when the board is closed."""
        with self._lock:
            self.traces, self.queued = traces, queued

    def close(self) -> None:
        """Let go of the board."""
        with self._lock:
            if self._board is not None:
                self._board.close()
            self._board = None

    def stop_if_cancelled(self) -> None:
        """Raise RunCancelled where the user has stopped the run."""
        if self._cancelled.is_set():
            raise RunCancelled("The run was stopped.")

    # The data.

    def batch(self, step: int) -> Batch:
        """The data of a step, made once; those of steps that every rank has left are dropped."""
        if self._setup.data.fixed:
            return self._setup.data.fixed
        if step not in self._batches:
            number = self._setup.first_step + step
            try:
                self._batches[step] = self._setup.data.batch(number)
            except StopIteration:
                raise DataEnded(
                    f"The data ended: inputs({number}) raised StopIteration, and the run takes "
                    f"{self._setup.recipe.steps} steps. The losses of the steps that were finished "
                    "are in Run.losses. Use fewer steps, or start the data again when it ends."
                ) from None
            for old in [s for s in self._batches if s < step - PREFETCH]:
                del self._batches[old]
        return self._batches[step]

    def part(self, step: int, rank: int) -> Batch:
        """What a rank needs of the data of a step."""
        return part_of_worker(self.batch(step), self._setup, rank)

    def prefetch(self) -> None:
        """Make the next step's data, while the ranks compute."""
        if self._batches and (ahead := max(self._batches) + 1) < self._setup.recipe.steps:
            with contextlib.suppress(DataEnded):  # said when a rank asks for it
                self.batch(ahead)

    def keep_last_batch(self) -> None:
        """The data of the last step, with which gradients can be compared."""
        self.last_batch = self.batch(self._setup.recipe.steps - 1)

    # The progress.

    def look(self) -> None:
        """Report the actions that were finished since the last look."""
        if not self.going:
            return
        offsets = self._setup.world.offsets
        done = self.board.status[:, 4].astype(int).tolist()
        fresh: dict[int, list[np.ndarray]] = {}
        for rank, (before, after) in enumerate(zip(self._seen, done, strict=True)):
            low, length = int(offsets[rank]), int(offsets[rank + 1] - offsets[rank])
            while before < after:
                step, first = divmod(before, length)
                last = min(length, first + after - before)
                fresh.setdefault(step, []).append(np.arange(low + first, low + last))
                before += last - first
        self._seen = done
        for step in sorted(fresh):
            atoms = np.concatenate(fresh[step])
            self.report(step, self.losses(), atoms, self.board.trace[step, atoms])

    def report(self, step: int, losses: list[float], atoms: np.ndarray, rows: np.ndarray) -> None:
        """Tell of newly finished actions."""
        self._progress(step, losses, atoms, rows)

    def losses(self) -> list[float]:
        """The losses of the steps that every rank has finished."""
        steps = int((np.array(self._seen) // np.diff(self._setup.world.offsets)).min())
        return self.losses_of(steps)

    def losses_of(self, steps: int) -> list[float]:
        """The losses of the first steps. Who shares a rank's layers has the same."""
        mesh = self._setup.mesh
        count = self._setup.schedule.microbatches
        losses = self.board.losses[:steps].reshape(steps, mesh.data, mesh.tensor, count)
        return losses[:, :, 0].sum(axis=(1, 2)).tolist()

    def finished_rows(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The atoms of a step that have finished, and their trace rows."""
        schedule = self._setup.world
        with self._lock:
            if self._board is None:
                if not len(self.traces):
                    return np.arange(0), np.zeros((0, len(TRACE)))
                return np.arange(len(schedule.kind)), self.traces[step]
            lengths = np.diff(schedule.offsets)
            done = np.clip(np.array(self._seen) - step * lengths, 0, lengths)
            ranges = zip(schedule.offsets[:-1], done, strict=True)
            atoms = np.concatenate([low + np.arange(count) for low, count in ranges])
            return atoms, self._board.trace[step, atoms]

    # Where ranks stand.

    def position(self, rank: int) -> tuple[int, float, float]:
        """(atom or -1, phase, since) of a rank."""
        _, atom, phase, since = self.board.status[rank, :4].tolist()
        return int(atom), phase, since

    def name(self, rank: int) -> str:
        """A rank in words: where there are several of a pipeline, which of them."""
        mesh = self._setup.mesh
        if mesh.planes == 1:
            return f"Rank {rank}"
        place = mesh.place(self._setup.schedule.ranks, rank)
        return f"Worker {rank} (data {place.data}, rank {place.rank}, tensor {place.tensor})"

    def where(self, rank: int) -> str:
        """What a rank is doing, in words."""
        atom, phase, since = self.position(rank)
        name = self.name(rank)
        if since == 0:
            return f"{name} was getting ready."
        step, seconds = int(self.board.status[rank, 0]), time.perf_counter() - since
        waited = f"{name} has waited {seconds:.1f} s, "
        if phase in (WAITING, TOGETHER) and atom < 0:
            return f"{waited}at the end of step {step}, for what other ranks send then."
        if phase == BETWEEN or atom < 0:
            return f"{name} was between step {step} and the next."
        schedule = self._setup.world
        action = schedule.atom(atom)
        copies = self._setup.schedule.replicas  # other pipelines of the mesh are not told by @
        shown = action._replace(replica=action.replica % copies)
        if phase == TOGETHER and action.kind not in COLLECTIVES:
            return f"{waited}in step {step}, in {shown}, for those who compute it together."
        if phase in (WAITING, TOGETHER) and action.kind in COLLECTIVES:
            what = "gradients" if action.kind == Kind.REDUCE_GRAD else "weights"
            return (
                f"{waited}in step {step}, in {shown}, for the {what} of other copies of what stage "
                f"{action.stage} trains."
            )
        if phase == WAITING:
            other = action.stage + (-1 if action.kind == Kind.F else 1)
            source = shown._replace(stage=other)
            sender = self.name(schedule.placement[action.replica, other]).lower()
            return (
                f"{waited}in step {step}, before {shown}, for the result of {source} from {sender}."
            )
        layers = [i for i, _, _ in self._setup.stages[action.stage]]
        span = f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]}"
        of = "" if action.kind in COLLECTIVES else f"micro-batch {action.microbatch} on "
        return (
            f"{name} has computed {shown} ({action.kind.title} of {of}stage {action.stage}, "
            f"{span}) for {seconds:.1f} s, in step {step}."
        )

    def has_stuck(self, rank: int) -> bool:
        """Whether a rank has been computing for longer than a wait may last."""
        _, phase, since = self.position(rank)
        return phase == COMPUTING and time.perf_counter() - since > self._limit()

    def check_stalled(self, running: list[int]) -> None:
        """Raise WorkerStalled where a rank has waited too long."""
        now, quick = time.perf_counter(), self._setup.recipe.timeout or 30.0
        late = {}
        for rank in running:
            _, phase, since = self.position(rank)
            waited = now - (since or self._started)
            if waited > 0.9 * quick and (phase != BETWEEN or not since):
                late[rank] = waited
        if late and max(late.values()) > self._limit():
            raise self.stalled()

    def stalled(self) -> WorkerStalled:
        """The error that says where every rank stands."""
        places = "\n".join(self.where(rank) for rank in range(self._setup.world.ranks))
        return WorkerStalled(
            f"The run stalled: nothing came for {self._limit():.3g} s. Where every rank "
            f"stands:\n{places}\nIf an action really takes that long, allow more with timeout=… "
            "(seconds)."
        )

    def _limit(self) -> float:
        """Seconds that a wait may last."""
        if self._setup.recipe.timeout:
            return self._setup.recipe.timeout
        worked = self.board.trace[:, :, TRACE.index("worked")]
        return max(30.0, 20.0 * float(worked.max(initial=0.0)))
