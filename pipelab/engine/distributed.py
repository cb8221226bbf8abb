"""A process per rank under torchrun, on one host or many: every process runs the same program.

    torchrun --nnodes 2 --nproc-per-node 2 … -m pipelab train --ranks 4

In: a plan, the same in every process. Out: losses and timelines in every process; gradients and weights on rank 0.
Messages between two ranks and in one direction arrive in the order in which they are sent (NCCL knows no other way), so
each receives them in that order, which follows from the schedule, and keeps what it does not need yet. Clocks of other
hosts are set to rank 0's by ping-pong, so that all timelines share an axis.

Tensors travel by gloo from the processor, and by NCCL from a GPU that is the process's own:

    host of rank 0    queue F ▸ queue send ▸ header by gloo ─╮
    its GPU           F ────────▸ send ═══════════════════╗  │ what comes, in which shape
    host of rank 1                                        ║  ╰▸ queue receive ▸ queue F
    its GPU                                               ╚═══▸ receive ▸ F

A host asks NCCL for a tensor only when its header is there, so that the sender's GPU has it in its queue already: no receive
waits for one that waits for it.
"""

import atexit
import contextlib
import copy
import gc
import os
import platform
import struct
import time
from collections import deque
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
from .plan import require_keepable_pace
from .program import program
from .rank import RankResult
from .transport import DTYPES, Arrival, Transport
from .worker import run_rank

PING_PONGS = 100
SLOWEST = 1800.0
"""Seconds a wait may last where the run sets no limit: torch's own default."""
_DIMS = 8
_HEADER = struct.Struct(f"<7q{_DIMS}q2d")  # message, sequence, parts, by NCCL, elements, dtype, dims, shape, planned, sent
_HEADER_TAG, _DATA_TAG = 1, 2
_REASON = "pipelab/reason"


class Lanes:
    """NCCL's ways between GPUs: two groups of all ranks, for tensors to higher ranks and to lower ones.

    What two ranks send each other in one group waits in one line, where two sends would wait for each other; a lane has one
    direction. They are kept from run to run.
    """

    def __init__(self, rank: int, device: torch.device, backend: str = "nccl"):
        self.rank, self.device, self.world = rank, device, dist.group.WORLD
        self._up, self._down = (dist.new_group(backend=backend, timeout=timedelta(seconds=SLOWEST)) for _ in range(2))
        self._connected: set[tuple[int, int]] = set()

    def connect(self, links: set[tuple[int, int]]) -> None:
        """Uses each link once, in an order that is everybody's: a first transfer sets it up, for which both hosts wait."""
        hello = torch.zeros(1, dtype=torch.uint8, device=self.device)
        for source, target in sorted(links - self._connected):
            if self.rank == source:
                _wait(self.send(hello, target))
            elif self.rank == target:
                _wait(self.receive(hello, source))
        self._connected |= links

    def abort(self) -> None:
        """Ends what still waits for another rank."""
        for group in (self._up, self._down):
            dist.distributed_c10d._abort_process_group(group)

    def takes(self, tensor: torch.Tensor) -> bool:
        return tensor.device == self.device

    def send(self, data: torch.Tensor, to: int) -> Any:
        """Queues a send behind what makes the bytes."""
        return dist.isend(data, to, group=self._up if to > self.rank else self._down)

    def receive(self, data: torch.Tensor, source: int) -> Any:
        """Queues a receive."""
        return dist.irecv(data, source, group=self._up if source < self.rank else self._down)


class DistributedTransport:
    """Between processes that share nothing: torch.distributed's send and receive.

    incoming: for each rank that sends to this one, the messages of a step's actions in the order of its sends. exchanged:
    the messages between two steps and who sends them. offset: what this process's clock must add to show rank 0's. lanes:
    between GPUs, or None.
    """

    def __init__(
        self, incoming: dict[int, list[int]], exchanged: dict[int, int], offset: float, lanes: Lanes | None = None
    ):
        self._offset, self._lanes = offset, lanes
        self._source = {message: rank for rank, order in incoming.items() for message in order} | exchanged
        self._last = {order[-1] for order in incoming.values()} | exchanged.keys()
        self._headers: dict[int, tuple[Any, torch.Tensor]] = {}
        self._kept: dict[tuple[int, int], Arrival] = {}
        self._under_way: deque[tuple[Any, torch.Tensor]] = deque()

    def send(
        self, to: int, message: int, sequence: int, tensor: torch.Tensor, planned: float, parts: int = 0
    ) -> None:
        """Hands a tensor to rank ``to`` and returns at once. Raises TypeError for what cannot be sent."""
        tensor = tensor.detach().contiguous()
        if tensor.dtype not in DTYPES or tensor.dim() > _DIMS:
            raise TypeError(f"cannot send a tensor of {tensor.dtype} with {tensor.dim()} dimensions between ranks")
        shape = tuple(tensor.shape) + (0,) * (_DIMS - tensor.dim())
        times = planned + self._offset, time.perf_counter() + self._offset
        by_lane = self._lanes is not None and self._lanes.takes(tensor)
        what = message, sequence, parts, by_lane, tensor.numel(), DTYPES.index(tensor.dtype), tensor.dim()
        packed = _HEADER.pack(*what, *shape, *times)
        header = torch.frombuffer(bytearray(packed), dtype=torch.uint8)
        try:
            self._under_way.append((dist.isend(header, to, tag=_HEADER_TAG), header))
            if tensor.numel():
                data = tensor.view(-1).view(torch.uint8)
                work = self._lanes.send(data, to) if by_lane else dist.isend(data, to, tag=_DATA_TAG)
                self._under_way.append((work, data))
        except RuntimeError as error:
            raise ConnectionError(str(error).splitlines()[0]) from None
        while self._under_way and self._under_way[0][0].is_completed():
            self._under_way.popleft()

    def receive(self, message: int, sequence: int, deadline: float) -> Arrival:
        """Waits for a message, keeping those that come before it. Raises TimeoutError at ``deadline``."""
        while (message, sequence) not in self._kept:  # all parts of a message come with its first
            self._take(self._source[message], deadline)
        return self._kept.pop((message, sequence))

    def consumed(self, message: int, sequence: int) -> None:
        """Received tensors are the receiver's own."""

    def finish(self, deadline: float) -> None:
        """Waits until everything that was sent has been taken."""
        while self._under_way:
            _wait(self._under_way.popleft()[0], deadline)

    def _take(self, source: int, deadline: float) -> None:
        """Receives the next message of a link, all parts of it, and asks for the header of the one after it."""
        message, parts = self._take_one(source, self._headers.pop(source, None) or self._ask(source), deadline)
        for _ in range(1, parts):
            self._take_one(source, self._ask(source), deadline)
        if message not in self._last:  # then another is sure to come: nothing is left waiting at the end
            self._headers[source] = self._ask(source)

    def _take_one(self, source: int, asked: tuple[Any, torch.Tensor], deadline: float) -> tuple[int, int]:
        """Receives one tensor. Returns its message and how many parts that has."""
        work, header = asked
        _wait(work, deadline)
        message, sequence, parts, by_lane, count, code, dims, *rest = _HEADER.unpack(header.numpy().tobytes())
        shape, (planned, sent) = rest[:dims], rest[_DIMS:]
        tensor = torch.empty(shape, dtype=DTYPES[code], device=self._lanes.device if by_lane else None)
        data = tensor.view(-1).view(torch.uint8)
        if count and by_lane:
            _wait(self._lanes.receive(data, source))
        elif count:
            _wait(dist.irecv(data, source, tag=_DATA_TAG), deadline)
        self._kept[message, sequence] = Arrival(tensor, sent - self._offset, planned - self._offset, parts)
        return message, parts

    def _ask(self, source: int) -> tuple[Any, torch.Tensor]:
        header = torch.empty(_HEADER.size, dtype=torch.uint8)
        return dist.irecv(header, source, tag=_HEADER_TAG), header


def _wait(work: Any, deadline: float | None = None) -> None:
    """Waits for a transfer until ``deadline``. Without one, of a transfer by NCCL, only the stream waits."""
    try:
        if deadline is None:
            work.wait()
        else:
            work.wait(timedelta(seconds=max(1e-3, min(deadline - time.perf_counter(), SLOWEST))))
    except RuntimeError as error:
        if deadline is not None and time.perf_counter() >= deadline - 1e-3:
            raise TimeoutError from None
        raise ConnectionError(str(error).splitlines()[0]) from None


class TorchrunDriver(Driver):
    """Runs a plan once, in step with the same driver of every other process."""

    _way = "gloo"

    @property
    def carrier(self) -> str:
        return f"torch.distributed, {_WAYS[self._way]}"

    def run(self) -> None:
        """As ``Driver.run``, for this process's rank. Raises UsageError when the processes do not fit the plan."""
        plan, schedule = self._plan, self._plan.schedule
        _join()
        rank = dist.get_rank()
        if dist.get_world_size() != schedule.ranks:
            raise UsageError(
                f"torchrun started {dist.get_world_size()} processes, but the schedule has {schedule.ranks} ranks: "
                "start one process per rank (nodes × --nproc-per-node)."
            )
        _require_equal("schedule", schedule.to_csv())
        _require_equal("number of steps, pace, latency or seed", (plan.steps, plan.pace, plan.latency, plan.seed))
        how = plan.device, plan.recompute, plan.dtype, plan.clip, plan.first_step, plan.evaluate
        _require_equal("device, way of recomputing, precision, clip or checkpoint", how)
        _require_equal("model", [float(p.detach().double().sum()) for _, _, m in plan.layers for p in m.parameters()])
        self._rank, self._offset = rank, _offset_to_rank_0(rank)
        self._way = _way(plan.device)
        self._board = Board(None, **self._sizes())
        try:
            job = self._job(rank)
            job = replace(job, stages=copy.deepcopy(job.stages))  # the caller's model stays as it is
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
                raise WorkerError(f"Rank {self._rank} lost another rank. {where}{reason}") from error
            raise WorkerError(f"Rank {self._rank} raised {type(error).__name__}: {error}\n{where}") from error

    # What a rank needs of its place (worker.Place).

    def open_board(self, sizes: dict[str, int]) -> Board:
        return self._board

    def device(self, rank: int) -> torch.device:
        return gpu.device_of(int(os.environ.get("LOCAL_RANK", rank)))

    def transport(self, board: Board, rank: int, device: torch.device, clock: HostClock) -> Transport:
        schedule, transfers = self._plan.schedule, self._plan.exchange.transfers()
        sends = {other: [s for s in program(schedule, other) if s.to is not None] for other in range(schedule.ranks)}
        orders = {other: [s.message_out for s in steps if s.to == rank] for other, steps in sends.items()}
        incoming = {other: order for other, order in orders.items() if order}
        exchanged = {t.message: t.source for t in transfers if t.target == rank}
        lanes = None
        if self._way == "nccl":
            lanes = _lanes(rank, device)
            lanes.connect({(other, s.to) for other, steps in sends.items() for s in steps} | {t[:2] for t in transfers})
        self._transport = DistributedTransport(incoming, exchanged, self._offset, lanes)
        return gpu.StagedTransport(self._transport, device) if self._way == "staged" else self._transport

    def tell(self, what: str, value: Any = None) -> None:
        if what == "measured" and self._plan.pace is not None:
            require_keepable_pace(self._plan, {key: seconds for each in _gather(value) for key, seconds in each.items()})

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
            self._progress(step, board.losses[: step + 1].sum(axis=1).tolist(), np.arange(len(schedule.kind)), rows)
        self.last_batch = self._batch(self._plan.steps - 1)
        results = [None] * schedule.ranks if rank == 0 else None
        dist.gather_object(self.results[rank], results)
        self.results = results or self.results  # elsewhere, its own


def _join() -> None:
    """Joins the group of all processes, unless the program has done so."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=timedelta(seconds=SLOWEST))
        atexit.register(_part)


_WAYS = {
    "gloo": "gloo",
    "nccl": "NCCL",
    "staged": "gloo through the host's memory (NCCL wants a GPU for each process)",
}


def _way(device: str) -> str:
    """How tensors travel: by NCCL where every process of the group has a GPU to itself, which NCCL demands."""
    if device == "cpu":
        return "gloo"
    here = int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size()))
    return "nccl" if all(_gather(dist.is_nccl_available() and here <= torch.cuda.device_count())) else "staged"


_LANES: list[Lanes] = []
"""Of this process, once a run has needed them."""


def _lanes(rank: int, device: torch.device) -> Lanes:
    if not _LANES or _LANES[0].world is not dist.group.WORLD:
        _LANES[:] = [Lanes(rank, device)]
    return _LANES[0]


def _part() -> None:
    """Leaves the group, and waits for gloo's threads to end: one that is still busy when Python goes aborts the process."""
    if dist.is_initialized():
        dist.destroy_process_group()
    gc.collect()  # the group itself goes with the last cycle of objects that knows it


def _gather(value: Any) -> list:
    """The values of all ranks, on all ranks."""
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _offset_to_rank_0(rank: int) -> float:
    """What this process's clock must add to show rank 0's: nothing on the same host, else found by ping-pong."""
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
            f"Rank {different[0]} was started with another {what} than rank {dist.get_rank()}: every process must make "
            "the same call. Seed the model with torch.manual_seed before it is built."
        )


def _leave(rank: int, error: BaseException) -> str:
    """Lets go of the others, so that none waits for this rank. Returns why the first that failed did, if it was another."""
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
