"""The driver: starts the workers of a run, feeds them, watches them, and brings their results home.

Every wait of every worker is watched from here: who waits, for what, since when. A worker that
raises, dies or stalls ends the run with one error; ending a run means ending its workers.
"""

import contextlib
import os
import pickle
import threading
import time
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

import numpy as np

from ..errors import RunCancelled, RunError, WorkerDied, WorkerError, WorkerStalled
from ..schedule import Kind, Schedule
from . import handover
from .batches import Batch
from .board import BETWEEN, TRACE, WAITING, Board, create_file
from .handover import TorchJob
from .interpreter import MAX_PARTS
from .plan import Plan, require_keepable_pace
from .pool import describe_exit, host
from .program import program
from .server import OPTIMIZER
from .ship import dumps
from .worker import RankJob, run_rank

POLL = 1 / 30
"""Seconds between two looks at the board."""
PREFETCH = 2
"""How many steps ranks can be apart, with one step of data made ahead."""


class Driver:
    """Runs a plan once. progress(step, losses, atoms, rows): called with the trace rows of newly
    finished actions.
    """

    def __init__(
        self, plan: Plan, progress: Callable[[int, list[float], np.ndarray, np.ndarray], None]
    ):
        self._plan, self._progress = plan, progress
        self._cancelled = threading.Event()
        self._board: Board | None = None
        self._lock = threading.Lock()  # of the board, which another thread may be drawing
        self._seen = [0] * plan.schedule.ranks
        self.results: list = [None] * plan.schedule.ranks
        self.traces = np.zeros((0, 0, len(TRACE)))
        self.last_batch: Batch | None = None
        self._batches: dict[int, Batch] = {}
        self._going = False
        self._torch: TorchJob | None = None

    @property
    def carrier(self) -> str:
        """How tensors get from rank to rank."""
        if self._plan.executor == "torch":
            return "torch.distributed, gloo"
        if self._plan.device == "cuda":
            by_threads = self._plan.workers == "threads"
            return (
                "device copies behind events"
                if by_threads
                else "shared memory, through the host's memory"
            )
        return "references in one process" if self._plan.workers == "threads" else "shared memory"

    def cancel(self) -> None:
        self._cancelled.set()

    def run(self) -> None:
        """Runs to the end.

        Raises RunError and its kinds, UsageError for a pace that cannot be kept.
        """
        plan, schedule = self._plan, self._plan.schedule
        self._torch = TorchJob.of(schedule) if plan.executor == "torch" else None
        jobs = self._jobs()
        self._stop_if_cancelled()
        self._board = Board(None, **self._sizes())
        crew = None
        try:
            modules = [OPTIMIZER] * (plan.optimizer is not None) + [handover.MODULE] * (
                self._torch is not None
            )
            threads = plan.workers == "threads"
            crew = host().launch(
                self._board.descriptor, schedule.ranks, modules, threads, self._cancelled
            )
            self._crew, self._launched = crew, time.perf_counter()
            for control, job in zip(crew.controls, jobs, strict=True):
                _tell(control, job)
            self._watch()
            with self._lock:
                self.traces = self._board.trace.copy()
            if self._torch:
                self.traces = handover.with_senders(schedule, self.traces)
        finally:
            if crew:
                crew.end()
            if self._torch:
                self._torch.remove()
            with self._lock:
                board, self._board = self._board, None
                board.close()

    def finished_rows(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The atoms of a step that have finished, and their trace rows."""
        schedule = self._plan.schedule
        with self._lock:
            if self._board is None:
                count = len(schedule.kind) if len(self.traces) else 0
                return np.arange(count), self.traces[step] if count else np.zeros((0, len(TRACE)))
            lengths = np.diff(schedule.offsets)
            done = np.clip(np.array(self._seen) - step * lengths, 0, lengths)
            atoms = np.concatenate(
                [low + np.arange(n) for low, n in zip(schedule.offsets[:-1], done, strict=True)]
            )
            return atoms, self._board.trace[step, atoms]

    def _jobs(self) -> list[bytes]:
        """For each rank, what its worker runs."""
        return dumps([(run_rank, (self._job(rank),)) for rank in range(self._plan.schedule.ranks)])

    def _sizes(self) -> dict[str, int]:
        """Of the board."""
        schedule = self._plan.schedule
        return {
            "ranks": schedule.ranks,
            "steps": self._plan.steps,
            "atoms": len(schedule.kind),
            "microbatches": schedule.microbatches,
            "messages": MAX_PARTS * self._plan.exchange.total,
        }

    def _job(self, rank: int) -> RankJob:
        plan, schedule = self._plan, self._plan.schedule
        mine = sorted(key for key, home in schedule.placement.items() if home == rank)
        last = schedule.stages - 1
        return RankJob(
            rank=rank,
            sizes=self._sizes(),
            program=program(schedule, rank, plan.recompute),
            stages={(r, s): (plan.stages[s], plan.loss if s == last else None) for r, s in mine},
            weights=schedule.weights,
            optimizer=plan.optimizer,
            scheduler=plan.scheduler,
            clip=plan.clip,
            exchange=plan.exchange,
            resumed=plan.resumed,
            dtype=plan.dtype,
            evaluate=plan.evaluate,
            outputs=plan.outputs,
            steps=plan.steps,
            first_step=plan.first_step,
            batch=plan.fixed and self._part(plan.fixed, rank),
            seed=plan.seed,
            durations=plan.durations(rank),
            latency=plan.latency,
            timeout=plan.timeout or float("inf"),
            device=plan.device,
            torch=self._torch,
        )

    def _part(self, batch: Batch, rank: int) -> Batch:
        """What a rank needs of a batch: inputs for the first stage, targets for the last."""
        homes = self._plan.schedule.placement_table
        return Batch(
            batch.inputs if rank in homes[:, 0] else None,
            batch.targets if rank in homes[:, -1] else None,
            batch.weights,
        )

    def _watch(self) -> None:
        """Answers the workers and looks at the board until all are done."""
        crew, plan = self._crew, self._plan
        rank_of = {control: rank for rank, control in enumerate(crew.controls)}
        running, ready, measured = set(crew.controls), 0, {}
        while running:
            self._stop_if_cancelled()
            for control in connection.wait(running, POLL):
                rank = rank_of[control]
                what, value = self._hear(control, rank)
                if what == "error":
                    raise self._worker_error(rank, *value)
                elif what == "measured":
                    measured |= value
                elif what == "batch":
                    _tell(control, pickle.dumps(self._part(self._batch(value), rank)))
                elif what == "ready":
                    ready += 1
                elif what == "done":
                    self.results[rank] = value
                    running.discard(control)
            if ready == len(crew.controls):
                ready = 0
                if plan.pace is not None:
                    require_keepable_pace(plan, measured)
                for control in crew.controls:
                    _tell(control, pickle.dumps("go"))
                self._going = True
            self._look()
            self._check_stalled([rank_of[control] for control in running])
            if self._batches and (ahead := max(self._batches) + 1) < plan.steps:
                self._batch(ahead)  # the next step's data, while the workers compute
        self._look()
        self.last_batch = self._batch(plan.steps - 1)

    def _batch(self, step: int) -> Batch:
        """The data of a step, made once; those of steps that every rank has left are dropped."""
        if self._plan.fixed:
            return self._plan.fixed
        if step not in self._batches:
            self._batches[step] = self._plan.batches(self._plan.first_step + step)
            for old in [s for s in self._batches if s < step - PREFETCH]:
                del self._batches[old]
        return self._batches[step]

    def _hear(self, control: connection.Connection, rank: int) -> tuple[str, Any]:
        try:
            return pickle.loads(control.recv_bytes())
        except (EOFError, ConnectionError):
            pass
        # Another worker may have failed first and this one only followed: its error tells more.
        for other, line in enumerate(self._crew.controls):
            with contextlib.suppress(EOFError, OSError):
                while line is not control and self.results[other] is None and line.poll():
                    what, value = pickle.loads(line.recv_bytes())
                    if what == "error":
                        raise self._worker_error(other, *value)
        where = self._where(rank)
        codes = self._crew.end()
        raise WorkerDied(
            f"The worker of rank {rank} is gone: {describe_exit(codes.get(rank, 0))}. {where}"
        )

    def _worker_error(self, rank: int, kind: str, text: str, trace: str) -> RunError:
        if kind == "TimeoutError" and self._position(rank)[1] == WAITING:
            return self._stalled(rank)
        first = text.splitlines()[0] if text else ""
        return WorkerError(
            f"Rank {rank} raised {kind}: {first}\n{self._where(rank)}\n\nThe worker's own "
            f"traceback:\n{trace.rstrip()}"
        )

    def _losses(self) -> list[float]:
        """The losses of the steps that every rank has finished."""
        schedule, board = self._plan.schedule, self._board
        steps = int((np.array(self._seen) // np.diff(schedule.offsets)).min())
        return board.losses[:steps].sum(axis=1).tolist()

    def _look(self) -> None:
        """Reports the actions that were finished since the last look."""
        if not self._going:
            return
        schedule, board = self._plan.schedule, self._board
        lengths = np.diff(schedule.offsets)
        done = board.status[:, 4].astype(int)
        fresh: dict[int, list[np.ndarray]] = {}
        for rank, (before, after) in enumerate(zip(self._seen, done.tolist(), strict=True)):
            low, length = int(schedule.offsets[rank]), int(lengths[rank])
            while before < after:
                step, first = divmod(before, length)
                last = min(length, first + after - before)
                fresh.setdefault(step, []).append(np.arange(low + first, low + last))
                before += last - first
        self._seen = done.tolist()
        losses = self._losses()
        for step in sorted(fresh):
            atoms = np.concatenate(fresh[step])
            self._progress(step, losses, atoms, board.trace[step, atoms])

    def _position(self, rank: int) -> tuple[int, float, float]:
        """(atom or -1, phase, since) of a rank."""
        _, atom, phase, since = self._board.status[rank, :4].tolist()
        return int(atom), phase, since

    def _where(self, rank: int) -> str:
        """What a rank is doing, in words."""
        atom, phase, since = self._position(rank)
        if since == 0:
            return f"Rank {rank} was getting ready."
        step = int(self._board.status[rank, 0])
        if phase == WAITING and atom < 0:
            seconds = time.perf_counter() - since
            return (
                f"Rank {rank} has waited {seconds:.1f} s, at the end of step {step}, for what "
                "other ranks send then."
            )
        if phase == BETWEEN or atom < 0:
            return f"Rank {rank} was between step {step} and the next."
        schedule: Schedule = self._plan.schedule
        action, seconds = schedule.atom(atom), time.perf_counter() - since
        layers = [i for i, _, _ in self._plan.stages[action.stage]]
        span = f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]}"
        if phase == WAITING:
            other = action.stage + (-1 if action.kind == Kind.F else 1)
            source = action._replace(stage=other)
            return (
                f"Rank {rank} has waited {seconds:.1f} s, in step {step}, before {action}, for "
                f"the result of {source} from rank {schedule.placement[action.replica, other]}."
            )
        return (
            f"Rank {rank} has computed {action} ({action.kind.title} of micro-batch "
            f"{action.microbatch} on stage {action.stage}, {span}) for {seconds:.1f} s, in step "
            f"{step}."
        )

    def _limit(self) -> float:
        """Seconds that a wait may last."""
        if self._plan.timeout:
            return self._plan.timeout
        return max(
            30.0, 20.0 * float(self._board.trace[:, :, TRACE.index("worked")].max(initial=0.0))
        )

    def _check_stalled(self, running: list[int]) -> None:
        now = time.perf_counter()
        waits = {rank: self._position(rank) for rank in running}
        late = [
            rank
            for rank, (_, phase, since) in waits.items()
            if now - (since or self._launched) > 0.9 * self._quick_limit
            and (phase != BETWEEN or not since)
        ]
        if late and any(now - (waits[r][2] or self._launched) > self._limit() for r in late):
            raise self._stalled(late[0])

    @property
    def _quick_limit(self) -> float:
        """A lower bound of ``_limit`` that costs nothing."""
        return self._plan.timeout or 30.0

    def _stalled(self, rank: int) -> WorkerStalled:
        places = "\n".join(self._where(r) for r in range(self._plan.schedule.ranks))
        return WorkerStalled(
            f"The run stalled: nothing came for {self._limit():.3g} s. Where every rank "
            f"stands:\n{places}\nIf an action really takes that long, allow more with timeout=… "
            "(seconds)."
        )

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise RunCancelled("The run was stopped.")


def _tell(control: connection.Connection, message: bytes) -> None:
    # A worker that is gone is noticed when we listen to it, with its reason.
    with contextlib.suppress(OSError):
        control.send_bytes(message)


def call_in_worker(function: Callable, *arguments: Any, timeout: float | None = None) -> Any:
    """Runs function(place, *arguments) in one new worker and returns its result.

    Raises WorkerError, WorkerDied, or WorkerStalled after ``timeout`` seconds (default 300).
    """
    board = create_file(1)
    crew = host().launch(board, 1)
    try:
        (control,) = crew.controls
        _tell(control, dumps([(function, arguments)])[0])
        if not control.poll(timeout or 300.0):
            raise WorkerStalled(f"{function.__name__} took longer than {timeout or 300.0:g} s.")
        try:
            what, value = pickle.loads(control.recv_bytes())
        except (EOFError, ConnectionError):
            raise WorkerDied(
                f"The worker is gone: {describe_exit(crew.end().get(0, 0))}."
            ) from None
        if what == "error":
            raise WorkerError(
                f"{value[0]}: {value[1]}\n\nThe worker's own traceback:\n{value[2].rstrip()}"
            )
        return value
    finally:
        crew.end()
        os.close(board)
