"""A process per rank under torchrun, on one host or many: every process runs the same program.

    torchrun --nnodes 2 --nproc-per-node 2 … -m pipelab train --ranks 4

In: a setup, the same in every process. Out: losses and timelines in every process; gradients and
weights on rank 0. Clocks of other hosts are set to rank 0's by ping-pong, so that all timelines
share an axis.
"""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from ...errors import RunCancelled, UsageError, WorkerError, WorkerStalled
from ..job.program import program
from ..job.rank_job import RankJob, RankResult
from ..job.torch_handover import with_senders
from ..record.board import DATA, TRACE, Board
from ..record.clock import HostClock
from ..setup.pacing import require_keepable_pace
from ..setup.rank_jobs import part_of_worker, rank_job
from ..setup.setup import Setup
from ..transport import gpu
from ..transport.group import Group
from ..transport.network import DistributedTransport, Lanes
from ..transport.network_group import NetworkGroup, make_groups
from ..transport.protocol import Transport
from ..travel.ship import copied
from ..workers.seat import run_rank
from .agreement import agreed_batch, require_same_run
from .group import WAYS, gather, join, lanes_of, leave, offset_to_rank_0, release_lanes, way_of
from .hints import hint
from .lookout import lookout
from .watch import DataEnded, Progress, Watch


class TorchrunDriver:
    """Runs a setup once, in step with the same driver of every other process."""

    def __init__(self, setup: Setup, progress: Progress):
        self._setup, self.watch = setup, Watch(setup, progress)
        self.results: list[RankResult | None] = [None] * setup.world.ranks
        self._way = "gloo"

    @property
    def carrier(self) -> str:
        """How tensors get from rank to rank."""
        return f"torch.distributed, {WAYS[self._way]}"

    def run(self) -> None:
        """Run this process's rank to the end.

        Raises UsageError when the processes do not fit the setup, RunError and its kinds.
        """
        setup, watch = self._setup, self.watch
        join()
        require_same_run(setup)
        self._way = way_of(setup.where.device)
        watch.open()
        try:
            seat = ProcessSeat(setup, watch, self._way)
            self.results[seat.rank] = self._work(seat)
            self._bring_home(seat)
        finally:
            watch.close()

    def _work(self, seat: "ProcessSeat") -> RankResult:
        job = rank_job(self._setup, seat.rank)
        job = replace(job, stages=copied(job.stages))  # the caller's model stays as it is
        try:
            with torch.autograd.set_multithreading_enabled(False), self._lookout(seat.rank):
                result = run_rank(seat, job)
            seat.finish(time.perf_counter() + job.recipe.limit)
            return result
        except (RunCancelled, UsageError, DataEnded):  # known to all
            raise
        except BaseException as error:
            where, reason = self.watch.where(seat.rank), leave(seat.rank, error)
            if isinstance(error, WorkerStalled):  # the look-out has said where
                raise
            if isinstance(error, TimeoutError):
                raise WorkerStalled(f"The run stalled. {where}{reason}") from error
            if isinstance(error, ConnectionError):
                raise WorkerError(f"Rank {seat.rank} lost another rank. {where}{reason}") from error
            kind, text = type(error).__name__, str(error)
            raise WorkerError(
                f"Rank {seat.rank} raised {kind}: {text}\n{where}{hint(kind, text)}"
            ) from error

    def _lookout(self, rank: int) -> AbstractContextManager:
        """Only NCCL lets a GPU wait for another process."""
        if self._way != "nccl":
            return nullcontext()
        return lookout(self.watch, rank, release_lanes)

    def _bring_home(self, seat: "ProcessSeat") -> None:
        """Traces and losses to all, what the last step left to rank 0."""
        schedule, board, rank = self._setup.world, self.watch.board, seat.rank
        low, high = schedule.offsets[rank], schedule.offsets[rank + 1]
        rows = board.trace[:, low:high].copy()
        clocks = [TRACE.index(name) for name in ("asked", "sent", "arrived", "started", "ended")]
        rows[:, :, clocks] += seat.offset
        everything = gather((rows, board.losses.copy(), board.queued[:, rank].copy()))
        traces = np.concatenate([rows for rows, _, _ in everything], axis=1)
        if self._way == "nccl":  # hosts send before their GPUs have what they send
            traces = with_senders(schedule, traces)
        self.watch.keep_traces(traces, np.stack([queued for *_, queued in everything], axis=1))
        board.losses[:] = sum(losses for _, losses, _ in everything)
        for step, rows in enumerate(traces):
            self.watch.report(
                step, self.watch.losses_of(step + 1), np.arange(len(schedule.kind)), rows
            )
        self.watch.keep_last_batch()
        results: list[RankResult | None] | None = [None] * schedule.ranks if rank == 0 else None
        dist.gather_object(self.results[rank], results)
        self.results = results or self.results  # elsewhere, its own


class ProcessSeat:
    """The seat of a rank in a process of torchrun. way: how tensors travel."""

    def __init__(self, setup: Setup, watch: Watch, way: str):
        self._setup, self._watch, self._way = setup, watch, way
        self.rank = dist.get_rank()
        self.offset = offset_to_rank_0(self.rank)
        self._transport: DistributedTransport | None = None
        self._lanes: Lanes | None = None
        self.bases: dict = {}

    def open_board(self, _: dict[str, int]) -> Board:
        """The board of this process."""
        return self._watch.board

    def device(self, rank: int) -> torch.device:
        """The GPU of this process."""
        return gpu.device_of(int(os.environ.get("LOCAL_RANK", rank)))

    def transport(self, job: RankJob, _: Board, device: torch.device, __: HostClock) -> Transport:
        """How the rank reaches the others: what comes from whom, in which order."""
        schedule, transfers = self._setup.schedule, self._setup.exchange.transfers()
        mine, first = job.rank, job.first_message
        incoming: dict[int, list[int]] = {}
        pairs = {(t.source, t.target) for t in transfers}
        for other in range(schedule.ranks):
            for instruction in program(schedule, other):
                if instruction.to is None or instruction.message_out is None:
                    continue
                pairs.add((other, instruction.to))
                if instruction.to == mine:
                    sender = job.pipeline[other]
                    incoming.setdefault(sender, []).append(first + instruction.message_out)
        exchanged = {}
        for t in transfers:
            if t.target == mine:
                exchanged[first + t.message] = job.pipeline[t.source]
        links = set()
        for each in self._pipelines():
            links |= {(each[source], each[target]) for source, target in pairs}
        if self._way == "nccl":
            self._lanes = lanes_of(job.worker, device)
            self._lanes.connect(links)
        self._transport = DistributedTransport(incoming, exchanged, self.offset, self._lanes)
        if self._way == "staged":
            return gpu.StagedTransport(self._transport, device)
        return self._transport

    def _pipelines(self) -> list[list[int]]:
        """The workers of every pipeline of the mesh."""
        mesh, ranks = self._setup.mesh, self._setup.schedule.ranks
        places = [mesh.place(ranks, worker) for worker in range(mesh.workers(ranks))]
        return [mesh.pipeline_group(ranks, place) for place in places if place.rank == 0]

    def group(
        self,
        job: RankJob,
        _board: Board,
        _transport: Transport,
        kind: int,
        workers: list[int],
        waits: Callable[[float], None],
    ) -> Group:
        """By NCCL between GPUs, else by gloo; every process makes the groups of all."""
        mesh, ranks = job.mesh, job.exchange.ranks
        find = mesh.data_group if kind == DATA else mesh.tensor_group
        places = [mesh.place(ranks, worker) for worker in range(mesh.workers(ranks))]
        everybody = dict.fromkeys(tuple(find(ranks, place)) for place in places)
        make_groups([list(each) for each in everybody], {"gloo", self._way} - {"staged"})
        limit, gpu_of_lanes = job.recipe.limit, self._lanes.device if self._lanes else None
        return NetworkGroup(workers, job.worker, self.offset, limit, waits, gpu_of_lanes)

    def tell(self, what: str, value: Any = None) -> None:
        """Every process decides for itself, with what all of them have measured."""
        if what != "measured" or self._setup.pace is None:
            return
        measured: dict[int, float] = {}
        for each in gather(value):
            measured |= each
        require_keepable_pace(self._setup.pace, self._setup.world, measured)

    def ask(self, what: str, value: Any = None) -> Any:
        """The batch of a step, or a sign that all are ready."""
        self._watch.stop_if_cancelled()
        if what == "batch":
            batch = agreed_batch(self._watch, value, self._setup.recipe.limit)
            return part_of_worker(batch, self._setup, self.rank)
        dist.barrier()  # "ready"
        self._watch.going = True
        return None

    def finish(self, deadline: float) -> None:
        """Wait until everything that was sent has been taken."""
        if self._transport is not None:
            self._transport.finish(deadline)
