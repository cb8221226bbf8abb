"""A process per rank under torchrun, on one host or many: every process runs the same program.

    torchrun --nnodes 2 --nproc-per-node 2 … -m pipelab train --ranks 4

In: a plan, the same in every process. Out: losses and timelines in every process; gradients and
weights on rank 0. Clocks of other hosts are set to rank 0's by ping-pong, so that all timelines
share an axis.
"""

import atexit
import contextlib
import copy
import gc
import os
import platform
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from ..errors import RunCancelled, UsageError, WorkerError, WorkerStalled
from . import gpu
from .board import TRACE, Board
from .clock import HostClock
from .driver import Driver
from .handover import with_senders
from .network import SLOWEST, DistributedTransport, Lanes
from .plan import require_keepable_pace
from .program import program
from .rank import RankResult
from .transport import Transport
from .worker import run_rank

PING_PONGS = 100
_REASON = "pipelab/reason"


class TorchrunDriver(Driver):
    """Runs a plan once, in step with the same driver of every other process."""

    _way = "gloo"

    @property
    def carrier(self) -> str:
        return f"torch.distributed, {_WAYS[self._way]}"

    def run(self) -> None:
        """As ``Driver.run``, for this process's rank.

        Raises UsageError when the processes do not fit the plan.
        """
        plan, schedule = self._plan, self._plan.schedule
        _join()
        rank = dist.get_rank()
        if dist.get_world_size() != schedule.ranks:
            raise UsageError(
                f"torchrun started {dist.get_world_size()} processes, but the schedule has "
                f"{schedule.ranks} ranks: start one process per rank (nodes × --nproc-per-node)."
            )
        _require_equal("schedule", schedule.to_csv())
        _require_equal(
            "number of steps, pace, latency or seed",
            (plan.steps, plan.pace, plan.latency, plan.seed),
        )
        how = plan.device, plan.recompute, plan.dtype, plan.clip, plan.first_step, plan.evaluate
        _require_equal("device, way of recomputing, precision, clip or checkpoint", how)
        _require_equal(
            "model",
            [float(p.detach().double().sum()) for _, _, m in plan.layers for p in m.parameters()],
        )
        self._rank, self._offset = rank, _offset_to_rank_0(rank)
        self._way = _way(plan.device)
        self._board = Board(None, **self._sizes())
        try:
            job = self._job(rank)
            job = replace(
                job, stages=copy.deepcopy(job.stages)
            )  # the caller's model stays as it is
            self.results[rank] = self._work(job)
            self._bring_home()
        finally:
            with self._lock:
                board, self._board = self._board, None
                board.close()

    def _work(self, job: Any) -> RankResult:
        try:
            with torch.autograd.set_multithreading_enabled(False):
                result = run_rank(self, job)
            self._transport.finish(time.perf_counter() + job.timeout)
            return result
        except (RunCancelled, UsageError):
            raise
        except BaseException as error:
            where, reason = self._where(self._rank), _leave(self._rank, error)
            if isinstance(error, TimeoutError):
                raise WorkerStalled(f"The run stalled. {where}{reason}") from error
            if isinstance(error, ConnectionError):
                raise WorkerError(
                    f"Rank {self._rank} lost another rank. {where}{reason}"
                ) from error
            raise WorkerError(
                f"Rank {self._rank} raised {type(error).__name__}: {error}\n{where}"
            ) from error

    # What a rank needs of its place (worker.Place).

    def open_board(self, sizes: dict[str, int]) -> Board:
        return self._board

    def device(self, rank: int) -> torch.device:
        return gpu.device_of(int(os.environ.get("LOCAL_RANK", rank)))

    def transport(
        self, board: Board, rank: int, device: torch.device, clock: HostClock
    ) -> Transport:
        schedule, transfers = self._plan.schedule, self._plan.exchange.transfers()
        sends = {
            other: [s for s in program(schedule, other) if s.to is not None]
            for other in range(schedule.ranks)
        }
        orders = {
            other: [s.message_out for s in steps if s.to == rank] for other, steps in sends.items()
        }
        incoming = {other: order for other, order in orders.items() if order}
        exchanged = {t.message: t.source for t in transfers if t.target == rank}
        lanes = None
        if self._way == "nccl":
            lanes = _lanes(rank, device)
            lanes.connect(
                {(other, s.to) for other, steps in sends.items() for s in steps}
                | {t[:2] for t in transfers}
            )
        self._transport = DistributedTransport(incoming, exchanged, self._offset, lanes)
        return (
            gpu.StagedTransport(self._transport, device)
            if self._way == "staged"
            else self._transport
        )

    def tell(self, what: str, value: Any = None) -> None:
        if what == "measured" and self._plan.pace is not None:
            require_keepable_pace(
                self._plan,
                {key: seconds for each in _gather(value) for key, seconds in each.items()},
            )

    def ask(self, what: str, value: Any = None) -> Any:
        self._stop_if_cancelled()
        if what == "batch":
            return self._part(self._batch(value), self._rank)
        dist.barrier()  # "ready"
        self._going = True
        return None

    def _bring_home(self) -> None:
        """Traces and losses to all, what the last step left to rank 0."""
        schedule, board, rank = self._plan.schedule, self._board, self._rank
        low, high = schedule.offsets[rank], schedule.offsets[rank + 1]
        rows = board.trace[:, low:high].copy()
        clocks = [TRACE.index(name) for name in ("asked", "sent", "arrived", "started", "ended")]
        rows[:, :, clocks] += self._offset
        everything = _gather((rows, board.losses.copy()))
        self.traces = np.concatenate([rows for rows, _ in everything], axis=1)
        if self._way == "nccl":  # hosts send before their GPUs have what they send
            self.traces = with_senders(schedule, self.traces)
        board.losses[:] = sum(losses for _, losses in everything)
        for step, rows in enumerate(self.traces):
            self._progress(
                step,
                board.losses[: step + 1].sum(axis=1).tolist(),
                np.arange(len(schedule.kind)),
                rows,
            )
        self.last_batch = self._batch(self._plan.steps - 1)
        results = [None] * schedule.ranks if rank == 0 else None
        dist.gather_object(self.results[rank], results)
        self.results = results or self.results  # elsewhere, its own


def _join() -> None:
    """Joins the group of all processes, unless the program has done so.

    Raises UsageError where that lacks gloo.
    """
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=timedelta(seconds=SLOWEST))
        atexit.register(_part)
    elif "cpu:gloo" not in dist.get_backend_config():
        raise UsageError(
            f"The program has joined its process group with {dist.get_backend_config()} alone, "
            "and ranks speak by gloo about what they send: leave init_process_group to the run, "
            "or give it backend='cpu:gloo,cuda:nccl'."
        )


_WAYS = {
    "gloo": "gloo",
    "nccl": "NCCL",
    "staged": "gloo through the host's memory (NCCL wants a GPU for each process)",
}


def _way(device: str) -> str:
    """How tensors travel: by NCCL where every process of the group has a GPU to itself, which NCCL
    demands.
    """
    if device == "cpu":
        return "gloo"
    here = int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size()))
    return (
        "nccl"
        if all(_gather(dist.is_nccl_available() and here <= torch.cuda.device_count()))
        else "staged"
    )


_LANES: list[Lanes] = []
"""Of this process, once a run has needed them."""


def _lanes(rank: int, device: torch.device) -> Lanes:
    """Raises UsageError where NCCL would let transfers of different links wait for each other."""
    if dist.group.WORLD.bound_device_id is not None:
        raise UsageError(
            "The program has bound its process group to a GPU (init_process_group(device_id=…)). "
            "NCCL then puts all that a rank sends upwards in one line, whoever it is for, and "
            "transfers can wait for each other: leave device_id out."
        )
    if not _LANES or _LANES[0].world is not dist.group.WORLD:
        _LANES[:] = [Lanes(rank, device)]
    return _LANES[0]


def _part() -> None:
    """Leaves the group, and waits for gloo's threads to end: one that is still busy when Python
    goes aborts the process.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    gc.collect()  # the group itself goes with the last cycle of objects that knows it


def _gather(value: Any) -> list:
    """The values of all ranks, on all ranks."""
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _offset_to_rank_0(rank: int) -> float:
    """What this process's clock must add to show rank 0's: nothing on the same host, else found by
    ping-pong.
    """
    hosts, offset = _gather(_host()), 0.0
    for other in range(1, len(hosts)):
        if hosts[other] == hosts[0] or rank not in (0, other):
            continue
        fastest, clock = float("inf"), torch.zeros(1, dtype=torch.float64)
        for _ in range(PING_PONGS):
            if rank == 0:
                dist.recv(clock, other)
                clock[0] = time.perf_counter()
                dist.send(clock, other)
                continue
            asked = time.perf_counter()
            dist.send(clock, 0)
            dist.recv(clock, 0)
            answered = time.perf_counter()
            if answered - asked < fastest:  # the middle of the fastest is nearest to the truth
                fastest, offset = answered - asked, clock.item() - (asked + answered) / 2
    return offset


def _host() -> str:
    """Two processes with the same answer share a clock."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return platform.node()


def _require_equal(what: str, value: Any) -> None:
    """Raises UsageError, on every rank, unless all have the same."""
    different = [rank for rank, other in enumerate(_gather(value)) if other != value]
    if different:
        raise UsageError(
            f"Rank {different[0]} was started with another {what} than rank {dist.get_rank()}: "
            "every process must make the same call. Seed the model with torch.manual_seed before "
            "it is built."
        )


def _leave(rank: int, error: BaseException) -> str:
    """Lets go of the others, so that none waits for this rank.

    Returns why the first that failed did, if it was another.
    """
    store, reason = dist.distributed_c10d._get_default_store(), ""
    if isinstance(error, ConnectionError):
        with contextlib.suppress(RuntimeError):
            store.wait([_REASON], timedelta(seconds=1))
            reason = "\n" + store.get(_REASON).decode()
    elif not isinstance(error, TimeoutError):
        store.set(_REASON, f"Rank {rank} raised {type(error).__name__}: {error}")
    while _LANES:
        _LANES.pop().abort()
    dist.destroy_process_group()
    return reason
