"""The driver: starts the workers of a run, feeds them, watches them, and brings their results home.

A worker that raises, dies or stalls ends the run with one error; ending a run means ending its
workers.
"""

import contextlib
import pickle
from multiprocessing import connection
from typing import Any

from ...errors import RunError, UsageError, WorkerDied, WorkerError
from ..job import torch_handover
from ..job.rank_job import RankResult
from ..job.torch_handover import TorchJob
from ..record.board import TOGETHER, WAITING
from ..setup.pacing import require_keepable_pace
from ..setup.rank_jobs import rank_job
from ..setup.setup import Setup
from ..transport.choose import class_for
from ..transport.ipc import IpcTransport
from ..travel.ship import dumps
from ..workers import parcel
from ..workers.pool import MAX_RANKS, Crew, worker_source
from ..workers.process import describe_exit
from ..workers.seat import run_rank
from ..workers.server import OPTIMIZER
from .hints import hint
from .watch import DataEnded, Progress, Watch

POLL = 1 / 30
"""Seconds between two looks at the board."""


class Driver:
    """Runs a setup once, in workers of the pool.

    carrier: how tensors get from rank to rank, as far as it is known.
    Raises UsageError for more ranks than the pool can start.
    """

    def __init__(self, setup: Setup, progress: Progress):
        ranks = setup.world.ranks
        if ranks > MAX_RANKS:
            raise UsageError(
                f"{ranks} ranks are more worker processes than this can start (at most "
                f"{MAX_RANKS})."
            )
        self._setup, self.watch = setup, Watch(setup, progress)
        self.results: list[RankResult | None] = [None] * ranks
        self._met: dict[int, Any] = {}
        self._measured: dict[int, float] = {}
        where = setup.where
        self.carrier = class_for(where.device, where.workers).carrier
        if where.executor == "torch":
            self.carrier = "torch.distributed, gloo"

    def run(self) -> None:
        """Run to the end.

        Raises RunError and its kinds, UsageError for a pace that cannot be kept.
        """
        setup, schedule, watch = self._setup, self._setup.world, self.watch
        torch = TorchJob.of(schedule) if setup.where.executor == "torch" else None
        crew = None
        try:
            jobs = [rank_job(setup, rank, torch) for rank in range(schedule.ranks)]
            packed = dumps([(run_rank, (job,)) for job in jobs])
            watch.stop_if_cancelled()
            watch.open()
            modules = [OPTIMIZER] if setup.recipe.optimizer is not None else []
            if torch:
                modules.append(torch_handover.MODULE)
            crew = worker_source().launch(
                watch.board.descriptor,
                schedule.ranks,
                modules,
                threads=setup.where.workers == "threads",
                cancelled=watch.cancelled,
            )
            watch.launched()
            for control, data in zip(crew.controls, packed, strict=True):
                _tell(control, data)
            self._serve(crew)
            traces = watch.board.trace.copy()
            if torch or self.carrier == IpcTransport.carrier:
                traces = torch_handover.with_senders(schedule, traces)
            watch.keep_traces(traces, watch.board.queued.copy())
        finally:
            if crew:
                crew.end()
            if torch:
                torch.remove()
            watch.close()

    def _serve(self, crew: Crew) -> None:
        """Answer the workers and look at the board until all are done."""
        rank_of: dict[Any, int] = {control: rank for rank, control in enumerate(crew.controls)}
        running = set(rank_of)
        ended: DataEnded | None = None
        without_data: set[Any] = set()
        while running:
            self.watch.stop_if_cancelled()
            for control in connection.wait(running, POLL):
                rank = rank_of[control]
                what, value = self._hear(crew, rank)
                if what == "error":
                    raise self._worker_error(rank, *value)
                if what == "batch":
                    try:
                        _tell(control, pickle.dumps(self.watch.part(value, rank)))
                    except DataEnded as error:
                        ended, without_data = error, without_data | {control}
                elif what == "done":
                    self.results[rank] = value
                    running.discard(control)
                else:
                    self._note(crew, rank, what, value)
            self.watch.look()
            if ended and without_data >= running:  # all have finished what there was
                raise ended
            self.watch.check_stalled([rank_of[control] for control in running])
            self.watch.prefetch()
        self.watch.look()
        self.watch.keep_last_batch()

    def _note(self, crew: Crew, rank: int, what: str, value: Any) -> None:
        """What a rank has found, or that it is "ready", or its part of what all "meet" for.

        When all are there, they go on, with what every one has brought.
        """
        if what == "measured":
            self._measured |= value
        elif what == "transport":
            self.carrier = value
        else:
            self._met[rank] = value
            if len(self._met) < len(crew.controls):
                return
            if what == "ready":
                self._begin()
            everything = pickle.dumps([self._met[each] for each in range(len(self._met))])
            self._met.clear()
            for control in crew.controls:
                _tell(control, everything)

    def _begin(self) -> None:
        """All ranks are ready to train, unless they cannot keep the pace."""
        if self._setup.pace is not None:
            threads = self._setup.where.workers == "threads"
            pace, schedule = self._setup.pace, self._setup.world
            require_keepable_pace(pace, schedule, self._measured, threads=threads)
        self.watch.going = True

    def _hear(self, crew: Crew, rank: int) -> tuple[str, Any]:
        """What a worker says. Raises WorkerDied where it is gone."""
        control = crew.controls[rank]
        try:
            return parcel.receive(control)
        except (EOFError, ConnectionError):
            pass
        # Another worker may have failed first and this one only followed: its error tells more.
        for other, line in enumerate(crew.controls):
            with contextlib.suppress(EOFError, OSError):
                while line is not control and self.results[other] is None and line.poll():
                    what, value = parcel.receive(line)
                    if what == "error":
                        raise self._worker_error(other, *value)
        where = self.watch.where(rank)
        code = crew.end().get(rank, 0)
        who = "worker of rank" if self._setup.mesh.planes == 1 else "process of worker"
        raise WorkerDied(f"The {who} {rank} is gone: {describe_exit(code)}. {where}")

    def _worker_error(self, rank: int, kind: str, text: str, trace: str) -> RunError:
        if kind == "TimeoutError" and self.watch.position(rank)[1] in (WAITING, TOGETHER):
            return self.watch.stalled()
        first = next((line for line in text.splitlines() if line.strip()), "")
        what = f"{kind}: {first}" if first else kind
        return WorkerError(
            f"{self.watch.name(rank)} raised {what}\n{self.watch.where(rank)}{hint(kind, text)}\n\n"
            f"The worker's own traceback:\n{trace.rstrip()}"
        )


def _tell(control: Any, message: bytes) -> None:
    # A worker that is gone is noticed when we listen to it, with its reason.
    with contextlib.suppress(OSError):
        control.send_bytes(message)
